// Package nd is the codec of Neighbor Discovery (RFC 4861) as far as a server of one guest needs it: solicitations of the
// guest decoded, advertisements laid out. It is the only package that knows the library for that, github.com/mdlayher/ndp.
//
// What the library would do with values that do not fit is kept from it: a lifetime is cut to its field, where the library
// would let it wrap; lists are divided over several options, and options over several messages, where the library would
// fail the whole message; names are those of package dhcp, clean, without the final dot of which it would make a label.
//
// It knows no socket and no checksum but its own: the reader of a frame checks that.
package nd

// Package link is what the server and the trace have of the guest's link: sockets with a kernel filter, and the frames on it.
//
// There are two kinds of socket to serve from. The packet socket sits on the guest's tap, sees what the guest sends before
// the bridge does, and writes whole frames. The UDP socket sits on the bridge and needs no capability. A Monitor hears both
// directions of a tap and sends nothing.
//
// The package decides nothing: what is heard and answered is said in a Service and a Watch, and what a frame is worth is
// said by a drop.Reason.
package link

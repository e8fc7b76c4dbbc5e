package plan

// Every link that podnic makes carries its mark from the request that creates it: a link group (IFLA_GROUP) whose upper
// byte says podnic and whose lower three are those of the index of the pod's own link. So a link that we made is known as
// ours without the record, the link that it was made for is known too, and one request removes them all.
//
// Indexes go up to 2³¹: a veth that was made on a node keeps the node's index when it is moved into the pod. Two links of
// one namespace whose indexes are a multiple of 2²⁴ apart have not been seen.
const (
	markBase = 0x70000000
	markMask = 0xff000000
)

// MarkFor is the mark of links that are made for the link with the index.
func MarkFor(nicIndex int) uint32 { return markBase | uint32(nicIndex)&^markMask }

// MarkedIndex is the index that the mark was made of, less its upper byte.
func MarkedIndex(group uint32) int { return int(group &^ markMask) }

// IsMark reports whether a link's group is a mark of ours.
func IsMark(group uint32) bool { return group&markMask == markBase }

// MarkedFor reports whether the mark is that of the link with the index.
func MarkedFor(group uint32, nicIndex int) bool { return group == MarkFor(nicIndex) }

package network

// Every link that podnic makes carries its mark from the request that creates it: a link group (IFLA_GROUP) whose upper
// half says podnic and whose lower half is the index of the pod's own link. So a link that we made is known as ours
// without the record, the link that it was made for is known too, and one request removes them all.
const (
	markBase = 0x706e0000 // "pn"
	markMask = 0xffff0000
)

func markFor(nicIndex int) uint32 { return markBase | uint32(nicIndex)&^markMask }

func isMark(group uint32) bool { return group&markMask == markBase }

// markedFor reports whether the mark is that of the link with the index.
func markedFor(group uint32, nicIndex int) bool { return group == markFor(nicIndex) }

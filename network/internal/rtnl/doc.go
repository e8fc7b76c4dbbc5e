// Package rtnl reads from the kernel what network/plan has types for, and asks it for the changes that were planned. It has
// the sockets of netlink and nftables, the codecs of their messages, and the ioctls that make a tap. It decides nothing.
//
// What is read can be written again: what a message holds and podnic could not put back is an [UnsupportedError] that
// names it (ADR 2). No [Conn], [NFT] or [Executor] is for use by several goroutines.
package rtnl

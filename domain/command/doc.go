// Package command runs any virtual machine monitor as a child process: one that libvirt does not manage, or the script that
// people start theirs with. It tells the command which tap, MAC and MTU its guest has, passes signals on, and reports how the
// command ended.
//
// Be aware:
//   - A command that goes on in the background (QEMU's -daemonize) has ended as far as this package can tell.
//   - The child is in the caller's process group, so that it can read from a terminal: Ctrl-C there reaches it twice.
package command

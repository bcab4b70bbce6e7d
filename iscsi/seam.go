package iscsi

// Node is a target node; its configuration is in the view.
type Node struct{}

// attentions are unit attentions that a nexus has not been told of.
type attentions struct{}

// sense is what went wrong with a command.
type sense struct{}

// cdbRule says what a command needs.
type cdbRule struct{}

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"sigs.k8s.io/e2e-framework/klient/conf"
	"sigs.k8s.io/e2e-framework/pkg/env"
	"sigs.k8s.io/e2e-framework/pkg/envconf"
)

var testenv env.Environment

// suite is what all tests share.
var suite struct {
	// name is that of the namespace of the node's pod, and begins those of the variants' namespaces.
	name string
	node *node
	// before is what the node looked like before the first launcher, once that has been looked at.
	before string
	looked bool
	// left is why the suite fails though all tests passed: something was left behind.
	left error
}

func TestMain(m *testing.M) {
	config := conf.ResolveKubeConfigFile()
	if config == "" {
		fmt.Fprintln(os.Stderr, "e2e: name the cluster with KUBECONFIG")
		os.Exit(2)
	}
	testenv = env.NewWithConfig(envconf.NewWithKubeConfig(config).WithParallelTestEnabled())
	suite.name = envconf.RandomName("podnic-e2e-", 16)
	testenv.Setup(setUp)
	testenv.Finish(finish)
	status := testenv.Run(m)
	if suite.left != nil {
		fmt.Fprintf(os.Stderr, "e2e: left behind: %v\n", suite.left)
		status = 1
	}
	os.Exit(status)
}

func setUp(ctx context.Context, c *envconf.Config) (context.Context, error) {
	if err := createNamespace(ctx, c, suite.name, "privileged"); err != nil {
		return ctx, err
	}
	var err error
	if suite.node, err = startNode(ctx, c); err != nil {
		return ctx, err
	}
	for _, v := range everyVariant() {
		if err := createNamespace(ctx, c, v.namespace(), v.level); err != nil {
			return ctx, err
		}
	}
	// With a pod on the pod network, what the network itself keeps on the node is there.
	if err := startClient(ctx, c); err != nil {
		return ctx, err
	}
	suite.before, err = suite.node.look(ctx, c)
	suite.looked = err == nil
	return ctx, err
}

// finish runs after a failed set-up too. The node is looked at while its pod is still there.
func finish(ctx context.Context, c *envconf.Config) (context.Context, error) {
	if suite.looked {
		suite.left = suite.node.left(ctx, c, suite.before)
	}
	for _, v := range everyVariant() {
		suite.left = errors.Join(suite.left, deleteNamespace(ctx, c, v.namespace()))
	}
	suite.left = errors.Join(suite.left, deleteNamespace(ctx, c, suite.name))
	return ctx, suite.left
}

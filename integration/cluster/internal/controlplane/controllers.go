package controlplane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/scale"
	"k8s.io/client-go/util/keyutil"
	"k8s.io/controller-manager/pkg/informerfactory"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/controller/certificates/rootcacertpublisher"
	"k8s.io/kubernetes/pkg/controller/clusterroleaggregation"
	"k8s.io/kubernetes/pkg/controller/deployment"
	"k8s.io/kubernetes/pkg/controller/disruption"
	"k8s.io/kubernetes/pkg/controller/endpointslice"
	"k8s.io/kubernetes/pkg/controller/garbagecollector"
	"k8s.io/kubernetes/pkg/controller/namespace"
	"k8s.io/kubernetes/pkg/controller/replicaset"
	"k8s.io/kubernetes/pkg/controller/serviceaccount"
	accounttoken "k8s.io/kubernetes/pkg/serviceaccount"

	"kthena-router/integration/cluster/internal/topology"
)

const (
	workers = 5
	// syncPeriod is how soon the garbage collector learns of new kinds.
	syncPeriod           = 30 * time.Second
	maxEndpointsPerSlice = 100
)

// controllers is the process that stands in for kube-controller-manager: the
// real controllers, but only those that a run needs. The manager itself would
// link all volume plug-ins and cloud code and start forty more loops. What is
// left out on purpose is node lifecycle and pod garbage collection: the node
// sends no heartbeats, so they would evict everything.
type controllers struct {
	client   kubernetes.Interface
	config   *rest.Config
	metadata metadata.Interface
	shared   informers.SharedInformerFactory
	mapper   *restmapper.DeferredDiscoveryRESTMapper
	runs     []func(context.Context)
}

// RunControllers runs the controllers until a signal comes.
func RunControllers(state topology.State) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config, err := ClientConfig(state.Kubeconfig(), "kube-controller-manager")
	if err != nil {
		return err
	}
	c, err := newControllers(config)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(state.PKI("ca.crt"))
	if err != nil {
		return fmt.Errorf("read certificate authority: %w", err)
	}
	garbage, informersStarted, err := c.garbageCollector(ctx)
	if err != nil {
		return err
	}
	err = errors.Join(c.addWorkloads(ctx), c.addServiceAccounts(ctx, ca), c.addTokens(ctx, state, ca), c.addDisruption(ctx))
	if err != nil {
		return err
	}
	c.addNamespacesAndRoles(ctx)
	c.shared.Start(ctx.Done())
	close(informersStarted)
	for _, run := range append(c.runs, garbage) {
		go run(ctx)
	}
	<-ctx.Done()
	return nil
}

func newControllers(config *rest.Config) (*controllers, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	metadataClient, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make metadata client: %w", err)
	}
	return &controllers{
		client:   client,
		config:   config,
		metadata: metadataClient,
		shared:   informers.NewSharedInformerFactory(client, 0),
		mapper:   restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery())),
	}, nil
}

func (c *controllers) addWorkloads(ctx context.Context) error {
	apps, core := c.shared.Apps().V1(), c.shared.Core().V1()
	deployments, err := deployment.NewDeploymentController(ctx, apps.Deployments(), apps.ReplicaSets(), core.Pods(), c.client)
	if err != nil {
		return fmt.Errorf("make deployment controller: %w", err)
	}
	replicaSets := replicaset.NewReplicaSetController(ctx, apps.ReplicaSets(), core.Pods(), c.client, replicaset.BurstReplicas)
	slices := endpointslice.NewController(ctx, core.Pods(), core.Services(), core.Nodes(),
		c.shared.Discovery().V1().EndpointSlices(), maxEndpointsPerSlice, c.client, 0)
	c.runs = append(c.runs,
		func(ctx context.Context) { deployments.Run(ctx, workers) },
		func(ctx context.Context) { replicaSets.Run(ctx, workers) },
		func(ctx context.Context) { slices.Run(ctx, workers) })
	return nil
}

func (c *controllers) addServiceAccounts(ctx context.Context, ca []byte) error {
	core := c.shared.Core().V1()
	accounts, err := serviceaccount.NewServiceAccountsController(klog.FromContext(ctx), core.ServiceAccounts(), core.Namespaces(),
		c.client, serviceaccount.DefaultServiceAccountsControllerOptions())
	if err != nil {
		return fmt.Errorf("make service account controller: %w", err)
	}
	publisher, err := rootcacertpublisher.NewPublisher(core.ConfigMaps(), core.Namespaces(), c.client, ca)
	if err != nil {
		return fmt.Errorf("make root certificate publisher: %w", err)
	}
	c.runs = append(c.runs,
		func(ctx context.Context) { accounts.Run(ctx, 1) },
		func(ctx context.Context) { publisher.Run(ctx, 1) })
	return nil
}

// addTokens fills Secrets of type service-account-token, the old way to get one.
func (c *controllers) addTokens(ctx context.Context, state topology.State, ca []byte) error {
	key, err := keyutil.PrivateKeyFromFile(state.PKI("service-account.key"))
	if err != nil {
		return fmt.Errorf("make token controller: %w", err)
	}
	generator, err := accounttoken.JWTTokenGenerator(accounttoken.LegacyIssuer, key)
	if err != nil {
		return fmt.Errorf("make token controller: %w", err)
	}
	core := c.shared.Core().V1()
	tokens, err := serviceaccount.NewTokensController(klog.FromContext(ctx), core.ServiceAccounts(), core.Secrets(), c.client,
		serviceaccount.TokensControllerOptions{TokenGenerator: generator, RootCA: ca})
	if err != nil {
		return fmt.Errorf("make token controller: %w", err)
	}
	c.runs = append(c.runs, func(ctx context.Context) { tokens.Run(ctx, 1) })
	return nil
}

func (c *controllers) addDisruption(ctx context.Context) error {
	scales, err := scale.NewForConfig(c.config, c.mapper, dynamic.LegacyAPIPathResolverFunc,
		scale.NewDiscoveryScaleKindResolver(c.client.Discovery()))
	if err != nil {
		return fmt.Errorf("make disruption controller: %w", err)
	}
	apps, core := c.shared.Apps().V1(), c.shared.Core().V1()
	budgets := disruption.NewDisruptionController(ctx, core.Pods(), c.shared.Policy().V1().PodDisruptionBudgets(),
		core.ReplicationControllers(), apps.ReplicaSets(), apps.Deployments(), apps.StatefulSets(),
		c.client, c.mapper, scales, c.client.Discovery())
	c.runs = append(c.runs, budgets.Run)
	return nil
}

func (c *controllers) addNamespacesAndRoles(ctx context.Context) {
	// Without aggregation the roles admin, edit and view are empty.
	roles := clusterroleaggregation.NewClusterRoleAggregation(c.shared.Rbac().V1().ClusterRoles(), c.client.RbacV1())
	namespaces := namespace.NewNamespaceController(ctx, c.client, c.metadata,
		c.client.Discovery().ServerPreferredNamespacedResources, c.shared.Core().V1().Namespaces(), 0, corev1.FinalizerKubernetes)
	c.runs = append(c.runs,
		func(ctx context.Context) { roles.Run(ctx, workers) },
		func(ctx context.Context) { namespaces.Run(ctx, workers) })
}

// garbageCollector returns the collector's loop and the channel that has to be
// closed once the shared informers run.
func (c *controllers) garbageCollector(ctx context.Context) (func(context.Context), chan struct{}, error) {
	started := make(chan struct{})
	factory := informerfactory.NewInformerFactory(c.shared, metadatainformer.NewSharedInformerFactory(c.metadata, 0))
	collector, err := garbagecollector.NewGarbageCollector(ctx, c.client, c.metadata, c.mapper,
		garbagecollector.DefaultIgnoredResources(), factory, started)
	if err != nil {
		return nil, nil, fmt.Errorf("make garbage collector: %w", err)
	}
	return func(ctx context.Context) {
		go collector.Sync(ctx, c.client.Discovery(), syncPeriod)
		collector.Run(ctx, workers, syncPeriod)
	}, started, nil
}

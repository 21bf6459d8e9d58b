package controlplane

import (
	"context"
	"fmt"
	"net/url"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"kthena-router/integration/cluster/internal/topology"
)

const etcdPeerURL = "http://127.0.0.1:2380"

// RunEtcd is the etcd process. It does not fsync: the data never outlives the
// run, and waiting for a disk is what makes a small control plane slow.
func RunEtcd(state topology.State) error {
	client, err := url.Parse(topology.EtcdClientURL)
	if err != nil {
		return err
	}
	peer, err := url.Parse(etcdPeerURL)
	if err != nil {
		return err
	}
	config := embed.NewConfig()
	config.Dir = state.Etcd()
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = config.ListenClientUrls
	config.ListenPeerUrls = []url.URL{*peer}
	config.AdvertisePeerUrls = config.ListenPeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.UnsafeNoFsync = true
	// A single member has nobody to wait for.
	config.TickMs, config.ElectionMs = 10, 100
	// The default of zero would log every request as slow.
	config.WarningUnaryRequestDuration = time.Second
	config.LogLevel = "warn"

	etcd, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	return <-etcd.Err()
}

// compactEtcd compacts everything up to the present, so that any older
// resource version is gone for readers of etcd.
func compactEtcd(ctx context.Context) (int64, error) {
	client, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{topology.EtcdClientURL},
		DialTimeout: 5 * time.Second,
	})
	if err != nil {
		return 0, fmt.Errorf("compact etcd: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	now, err := client.Get(ctx, "compact_rev_key")
	if err != nil {
		return 0, fmt.Errorf("compact etcd: %w", err)
	}
	revision := now.Header.Revision
	if _, err := client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return 0, fmt.Errorf("compact etcd to revision %d: %w", revision, err)
	}
	return revision, nil
}

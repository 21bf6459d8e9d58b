package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"kthena-router/integration/cluster/internal/resolve"
	"kthena-router/integration/cluster/internal/volumes"
)

// tokenCheck is how often a pod looks whether one of its tokens gets old.
const tokenCheck = 30 * time.Second

func (w *worker) volumeDirectory(name string) string {
	return filepath.Join(w.directory(), name)
}

func (w *worker) fsGroup() *int64 {
	if w.spec.SecurityContext == nil {
		return nil
	}
	return w.spec.SecurityContext.FSGroup
}

// writeVolumes makes the volumes or brings their contents up to date.
func (w *worker) writeVolumes() error {
	references := w.references()
	for _, volume := range w.spec.Volumes {
		payload, contents, err := references.Volume(volume)
		if err != nil {
			return err
		}
		dir := w.volumeDirectory(volume.Name)
		if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
			if err := volumes.Prepare(dir, w.fsGroup()); err != nil {
				return fmt.Errorf("volume %s: %w", volume.Name, err)
			}
		}
		if !contents {
			continue
		}
		if _, err := volumes.Write(dir, payload, w.fsGroup()); err != nil {
			return fmt.Errorf("volume %s: %w", volume.Name, err)
		}
	}
	return nil
}

// keepVolumes makes the volumes follow their sources and keeps tokens fresh. A
// source that vanishes leaves the last contents in place.
func (w *worker) keepVolumes(ctx context.Context) {
	tick := time.NewTicker(tokenCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.stale:
		case <-tick.C:
		}
		if err := w.writeVolumes(); err != nil {
			w.kubelet.log.Printf("refresh volumes of pod %s/%s: %v", w.namespace, w.name, err)
		}
	}
}

// subPath is the place of one entry of a volume. In volumes with contents it is
// bound as it is now and does not follow changes, as in any cluster.
func (w *worker) subPath(volume, path string) (string, error) {
	if !filepath.IsLocal(path) {
		return "", fmt.Errorf("subPath %q leaves the volume", path)
	}
	full := filepath.Join(w.volumeDirectory(volume), path)
	resolved, err := filepath.EvalSymlinks(full)
	if err == nil {
		return resolved, nil
	}
	for _, v := range w.spec.Volumes {
		if v.Name == volume && v.EmptyDir != nil && errors.Is(err, fs.ErrNotExist) {
			return full, volumes.Prepare(full, w.fsGroup())
		}
	}
	return "", fmt.Errorf("subPath %q of volume %s: %w", path, volume, err)
}

// removeFiles removes volumes and mount points; the mounts themselves went with
// the containers.
func (w *worker) removeFiles() error {
	return errors.Join(
		os.RemoveAll(w.directory()),
		os.RemoveAll(filepath.Join(w.kubelet.state.Containers(), string(w.uid))),
	)
}

// podObjects gives a pod's references access to what they name: the local
// copies, and the API server for what is too new to be in them.
type podObjects struct{ *worker }

// Secret finds a Secret.
func (o podObjects) Secret(namespace, name string) (*corev1.Secret, error) {
	if object, found := o.kubelet.secrets.Get(namespace, name); found {
		return object, nil
	}
	ctx, cancel := context.WithTimeout(o.ctx, requestTimeout)
	defer cancel()
	object, err := o.kubelet.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	return object, notFound(err, "Secret", namespace, name)
}

// ConfigMap finds a ConfigMap.
func (o podObjects) ConfigMap(namespace, name string) (*corev1.ConfigMap, error) {
	if object, found := o.kubelet.configMaps.Get(namespace, name); found {
		return object, nil
	}
	ctx, cancel := context.WithTimeout(o.ctx, requestTimeout)
	defer cancel()
	object, err := o.kubelet.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	return object, notFound(err, "ConfigMap", namespace, name)
}

func notFound(err error, kind, namespace, name string) error {
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s %s/%s: %w", kind, namespace, name, resolve.ErrNotFound)
	default:
		return fmt.Errorf("%s %s/%s: %w", kind, namespace, name, err)
	}
}

// Token returns a token of the pod's service account, the same one until it has
// lived most of its life.
func (o podObjects) Token(pod *corev1.Pod, projection *corev1.ServiceAccountTokenProjection) (string, error) {
	o.tokens.mu.Lock()
	defer o.tokens.mu.Unlock()
	if token, found := o.tokens.byPath[projection.Path]; found && time.Now().Before(token.renew) {
		return token.text, nil
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: projection.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID,
		},
	}}
	if projection.Audience != "" {
		request.Spec.Audiences = []string{projection.Audience}
	}
	ctx, cancel := context.WithTimeout(o.ctx, requestTimeout)
	defer cancel()
	answer, err := o.kubelet.client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("request token of service account %s/%s: %w", pod.Namespace, pod.Spec.ServiceAccountName, err)
	}
	if o.tokens.byPath == nil {
		o.tokens.byPath = map[string]token{}
	}
	life := time.Until(answer.Status.ExpirationTimestamp.Time)
	o.tokens.byPath[projection.Path] = token{text: answer.Status.Token, renew: time.Now().Add(life * 8 / 10)}
	return answer.Status.Token, nil
}

// tokenCache keeps the tokens of a pod by the file they go to.
type tokenCache struct {
	mu     sync.Mutex
	byPath map[string]token
}

type token struct {
	text  string
	renew time.Time
}

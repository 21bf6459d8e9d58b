// Package mirror keeps a local copy of one kind of object of the API server.
//
// It exists beside client-go's shared informers because those wait up to a
// minute before they look again after an outage of the API server, and outages
// are what the tests on this cluster make.
package mirror

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
)

// retry is how soon a broken list or watch is tried again.
var retry = wait.Backoff{Duration: 100 * time.Millisecond, Factor: 1.5, Steps: 8, Cap: time.Second}

// Object is what the API server deals in.
type Object interface {
	comparable
	metav1.Object
}

// Mirror is the local copy. The handler is called for every difference, with
// the zero value for the old state of a new object and for the new state of a
// deleted one, never concurrently, and must not block.
type Mirror[T Object] struct {
	handler func(before, after T)

	mu      sync.Mutex
	objects map[string]T
	synced  chan struct{}
	once    sync.Once
}

// New makes an empty mirror; Run fills it. The handler may be nil.
func New[T Object](handler func(before, after T)) *Mirror[T] {
	if handler == nil {
		handler = func(T, T) {}
	}
	return &Mirror[T]{handler: handler, objects: map[string]T{}, synced: make(chan struct{})}
}

// Run follows the API server until the context ends. The example tells the
// reflector the type that it has to expect.
func (m *Mirror[T]) Run(ctx context.Context, source cache.ListerWatcher, example T) {
	backoff := retry
	reflector := cache.NewReflectorWithOptions(source, example, (*store[T])(m), cache.ReflectorOptions{Backoff: &backoff})
	reflector.RunWithContext(ctx)
}

// Synced is closed after the first list.
func (m *Mirror[T]) Synced() <-chan struct{} { return m.synced }

// Get returns an object by namespace and name. Objects are shared and must not
// be changed.
func (m *Mirror[T]) Get(namespace, name string) (T, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	object, found := m.objects[key(namespace, name)]
	return object, found
}

// List returns the objects for which keep says so.
func (m *Mirror[T]) List(keep func(T) bool) []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	var list []T
	for _, object := range m.objects {
		if keep(object) {
			list = append(list, object)
		}
	}
	return list
}

func key(namespace, name string) string { return namespace + "/" + name }

// store is the side of the mirror that the reflector writes to. All calls come
// from the reflector's goroutine.
type store[T Object] Mirror[T]

// Add takes in a new object.
func (s *store[T]) Add(object any) error { return s.Update(object) }

// Update takes in a changed object.
func (s *store[T]) Update(object any) error {
	after := object.(T)
	s.mu.Lock()
	id := key(after.GetNamespace(), after.GetName())
	before := s.objects[id]
	s.objects[id] = after
	s.mu.Unlock()
	s.handler(before, after)
	return nil
}

// Delete forgets an object.
func (s *store[T]) Delete(object any) error {
	last := object.(T)
	s.mu.Lock()
	delete(s.objects, key(last.GetNamespace(), last.GetName()))
	s.mu.Unlock()
	var none T
	s.handler(last, none)
	return nil
}

// Replace takes in a whole list; what it lacks was deleted in the meantime.
func (s *store[T]) Replace(list []any, _ string) error {
	objects := make(map[string]T, len(list))
	for _, object := range list {
		typed := object.(T)
		objects[key(typed.GetNamespace(), typed.GetName())] = typed
	}
	s.mu.Lock()
	before := s.objects
	s.objects = objects
	s.mu.Unlock()

	var none T
	for id, old := range before {
		// An object that was deleted and made anew is another one.
		if now, found := objects[id]; !found || now.GetUID() != old.GetUID() {
			s.handler(old, none)
			delete(before, id)
		}
	}
	for id, now := range objects {
		old := before[id]
		if old == none || old.GetResourceVersion() != now.GetResourceVersion() {
			s.handler(old, now)
		}
	}
	s.once.Do(func() { close(s.synced) })
	return nil
}

// Resync has no meaning here.
func (s *store[T]) Resync() error { return nil }

package mirror

import (
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func pod(name, uid, version string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(uid), ResourceVersion: version}}
}

func TestReplaceReportsDifferences(t *testing.T) {
	var seen []string
	m := New(func(before, after *corev1.Pod) {
		switch {
		case before == nil:
			seen = append(seen, "new "+after.Name)
		case after == nil:
			seen = append(seen, "gone "+before.Name)
		default:
			seen = append(seen, fmt.Sprintf("changed %s to %s", after.Name, after.ResourceVersion))
		}
	})
	s := (*store[*corev1.Pod])(m)
	for _, object := range []*corev1.Pod{pod("same", "1", "1"), pod("changed", "2", "1"), pod("deleted", "3", "1"), pod("reborn", "4", "1")} {
		if err := s.Add(object); err != nil {
			t.Fatal(err)
		}
	}
	seen = nil
	list := []any{pod("same", "1", "1"), pod("changed", "2", "2"), pod("reborn", "5", "2"), pod("added", "6", "2")}
	if err := s.Replace(list, "2"); err != nil {
		t.Fatal(err)
	}
	slices.Sort(seen)
	want := []string{"changed changed to 2", "gone deleted", "gone reborn", "new added", "new reborn"}
	if !slices.Equal(seen, want) {
		t.Errorf("got %q, want %q", seen, want)
	}
	if _, found := m.Get("ns", "deleted"); found {
		t.Error("deleted object is still there")
	}
	select {
	case <-m.Synced():
	default:
		t.Error("not synced after a list")
	}
}

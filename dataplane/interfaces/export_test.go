package interfaces

// RouteReadings returns how often the routing tables were read.
func (w *Watcher) RouteReadings() int {
	w.uplinks.mu.Lock()
	defer w.uplinks.mu.Unlock()
	return w.uplinks.readings
}

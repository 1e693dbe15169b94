//go:build race

package etcdlab

const raceDetector = true

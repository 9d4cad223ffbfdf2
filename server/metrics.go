package server

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"spillway/decode"
	"spillway/spool"
)

// metrics is what /metrics shows, in a registry of its own.
type metrics struct {
	registry  *prometheus.Registry
	inFlight  prometheus.Gauge
	requests  *prometheus.CounterVec
	outcomes  map[outcome]prometheus.Counter
	sent      prometheus.Counter
	copied    prometheus.Counter
	firstByte prometheus.Histogram
}

func newMetrics(cfg Config, handedOver func() int) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "spillway_http_requests_in_flight", Help: "Requests being answered, on both listeners."}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "spillway_http_requests_total",
			Help: "Requests that ended, by listener, route pattern and status; 499 is a client that left before its answer."},
			[]string{"listener", "route", "status"}),
		outcomes: make(map[outcome]prometheus.Counter),
		sent: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_http_sent_bytes_total", Help: "Bytes of bodies sent on the public listener."}),
		copied: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "spillway_http_copied_bytes_total",
			Help: "Bytes of files that were copied through the process instead of being sent by the kernel: private windows, files held by their caps, and connections that are not plain TCP."}),
		firstByte: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "spillway_http_first_byte_seconds",
			Help: "Time from a request to its first wanted byte being verified; 2 s and more: answered before it was.",
			// The wait ends at 2 s: the last bucket below it tells the two apart.
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 1.99}}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "spillway_build_info", Help: "Always 1; its label tells the version.",
		ConstLabels: prometheus.Labels{"version": cfg.Version}})
	build.Set(1)
	outcomes := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "spillway_http_outcomes_total",
		Help: "How requests for files and others on the public listener ended."},
		[]string{"outcome"})
	for _, how := range []outcome{complete, refused, cut, clientLeft, stalled, panicked} {
		m.outcomes[how] = outcomes.WithLabelValues(string(how))
	}
	outside := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "spillway_http_requests_handed_over",
		Help: "Requests whose bodies wait for their clients, or for bytes of the file, outside of the HTTP server."},
		func() float64 { return float64(handedOver()) })
	m.registry.MustRegister(m.inFlight, m.requests, outcomes, m.sent, m.copied, outside, m.firstByte, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if cfg.Spool != nil {
		m.registry.MustRegister(spoolCollector{cfg.Spool})
	}
	if cfg.Client != nil {
		m.registry.MustRegister(decodeCollector{cfg.Client})
	}
	return m
}

// observe counts a request that has ended.
func (m *metrics) observe(log *logLine) {
	counter, ok := log.route.byStatus.Load(log.status)
	if !ok {
		counter = m.requests.WithLabelValues(log.route.listener, log.route.pattern, strconv.Itoa(log.status))
		log.route.byStatus.Store(log.status, counter)
	}
	counter.(prometheus.Counter).Inc()
	if log.route.listener != "public" {
		return
	}
	m.outcomes[log.outcome].Inc()
	m.sent.Add(float64(log.bytes))
	if log.firstByte > 0 {
		m.firstByte.Observe(log.firstByte.Seconds())
	}
}

// spoolCollector reads the spool's state once for each scrape.
type spoolCollector struct{ spool *spool.Spool }

var (
	spoolBudget   = prometheus.NewDesc("spillway_spool_budget_bytes", "Disk space that spool files may take.", nil, nil)
	spoolReserved = prometheus.NewDesc("spillway_spool_reserved_bytes", "Disk space that spool files take or have reserved.", nil, nil)
	spoolSpooled  = prometheus.NewDesc("spillway_spool_spooled_bytes", "Verified bytes in spool files.", nil, nil)
	spoolEntries  = prometheus.NewDesc("spillway_spool_entries", "Spool files by state.", []string{"state"}, nil)
	spoolReaders  = prometheus.NewDesc("spillway_spool_readers", "Requests reading spool files.", nil, nil)
	spoolAcquired = prometheus.NewDesc("spillway_spool_acquires_total",
		"Requests for spool files by what they got: a file that was there, a new one, a private window, or a refusal.", []string{"outcome"}, nil)
	spoolRemoved = prometheus.NewDesc("spillway_spool_removed_total", "Spool files removed, by reason.", []string{"reason"}, nil)
	spoolFailed  = prometheus.NewDesc("spillway_spool_failures_total", "Chunks and files that could not be decoded or written.", nil, nil)
	spoolChunks  = prometheus.NewDesc("spillway_spool_written_chunks_total", "Chunks written into spool files.", nil, nil)
	spoolBytes   = prometheus.NewDesc("spillway_spool_written_bytes_total", "Bytes written into spool files.", nil, nil)
)

func (c spoolCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{spoolBudget, spoolReserved, spoolSpooled, spoolEntries,
		spoolReaders, spoolAcquired, spoolRemoved, spoolFailed, spoolChunks, spoolBytes} {
		ch <- desc
	}
}

func (c spoolCollector) Collect(ch chan<- prometheus.Metric) {
	snapshot := c.spool.Snapshot()
	gauge := func(desc *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(desc *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), labels...)
	}
	states := map[spool.State]int64{}
	for _, state := range []spool.State{spool.Filling, spool.Paused, spool.Failed, spool.Complete, spool.Window, spool.Leaving} {
		states[state] = 0
	}
	readers := int64(0)
	for _, e := range snapshot.Entries {
		states[e.State]++
		readers += int64(e.Readers)
	}
	for state, n := range states {
		gauge(spoolEntries, n, string(state))
	}
	gauge(spoolReaders, readers)
	gauge(spoolBudget, snapshot.BudgetBytes)
	gauge(spoolReserved, snapshot.ReservedBytes)
	gauge(spoolSpooled, snapshot.SpooledBytes)
	counter(spoolAcquired, snapshot.Hits, "hit")
	counter(spoolAcquired, snapshot.Misses, "miss")
	counter(spoolAcquired, snapshot.Windows, "window")
	counter(spoolAcquired, snapshot.Refused, "refused")
	counter(spoolRemoved, snapshot.Evicted, "evicted")
	counter(spoolRemoved, snapshot.Expired, "expired")
	counter(spoolRemoved, snapshot.Purged, "purged")
	counter(spoolFailed, snapshot.Failed)
	counter(spoolChunks, snapshot.ChunksWritten)
	counter(spoolBytes, snapshot.BytesWritten)
}

// decodeCollector reads the decoder's totals once for each scrape.
type decodeCollector struct{ client *decode.Client }

var (
	decodeCorrupt  = prometheus.NewDesc("spillway_decode_corrupt_shares_total", "Shares found corrupt.", nil, nil)
	decodeErrors   = prometheus.NewDesc("spillway_decode_server_errors_total", "Requests that storage servers failed.", nil, nil)
	decodeHedged   = prometheus.NewDesc("spillway_decode_hedged_reads_total", "Reads of shares that were late, so that another share was read as well.", nil, nil)
	decodeMetadata = prometheus.NewDesc("spillway_decode_metadata_lookups_total", "Lookups in the cache of verified metadata.", []string{"outcome"}, nil)
	decodeMemory   = prometheus.NewDesc("spillway_decode_memory_bytes", "Memory of the chunks being decoded now.", nil, nil)
)

func (c decodeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{decodeCorrupt, decodeErrors, decodeHedged, decodeMetadata, decodeMemory} {
		ch <- desc
	}
}

func (c decodeCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.client.Stats()
	counter := func(desc *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v), labels...)
	}
	counter(decodeCorrupt, stats.CorruptShares)
	counter(decodeErrors, stats.ServerErrors)
	counter(decodeHedged, stats.HedgedReads)
	counter(decodeMetadata, stats.MetadataHits, "hit")
	counter(decodeMetadata, stats.MetadataMisses, "miss")
	ch <- prometheus.MustNewConstMetric(decodeMemory, prometheus.GaugeValue, float64(stats.MemoryInUse))
}

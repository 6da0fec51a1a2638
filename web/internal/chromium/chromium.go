// Package chromium controls a Chromium for tests.
package chromium

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// ShotsEnv names the environment variable with the directory for screenshots. Without it,
// they go to the test's artifacts.
const ShotsEnv = "FAILOVER_SCREENSHOTS"

// actionTimeout is the longest time that an action may take, on a busy machine.
const actionTimeout = time.Minute

// A Browser is the Chromium of a test.
type Browser struct {
	t   testing.TB
	ctx context.Context
}

// Start starts a Chromium that ends with the test. The test fails if PATH has none.
func Start(t testing.TB) *Browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("the dashboard's tests need a Chromium in PATH, as chromium or chromium-browser (apt-get install chromium)")
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path),
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless,
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("disable-renderer-backgrounding", true),
		chromedp.Flag("metrics-recording-only", true),
		chromedp.Flag("password-store", "basic"),
		chromedp.Flag("use-mock-keychain", true),
		chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("font-render-hinting", "none"),
	)
	ctx, cancelBrowser := chromedp.NewContext(allocator, chromedp.WithErrorf(func(format string, args ...any) {
		// The protocol grows faster than its Go binding.
		if text := fmt.Sprintf(format, args...); !strings.Contains(text, "unmarshal") && !strings.Contains(text, "unhandled") {
			t.Log(text)
		}
	}))
	if err := chromedp.Do(ctx); err != nil {
		cancel()
		t.Fatalf("starting %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Logf("stopping Chromium: %v", err)
		}
		cancelBrowser()
		cancel()
	})
	return &Browser{t: t, ctx: ctx}
}

// For returns the browser for use in a subtest.
func (b *Browser) For(t testing.TB) *Browser { return &Browser{t: t, ctx: b.ctx} }

// Look is the environment of a tab.
type Look struct {
	Width, Height int
	Dark          bool
	Language      string // as in Accept-Language
	Scale         float64
}

// A Tab is a page with storage of its own. Its methods fail the test on errors.
type Tab struct {
	t    testing.TB
	ctx  context.Context
	look Look

	mu       sync.Mutex
	problems []string
	requests []string
	received map[network.RequestID]float64
}

// Open opens an address in a new tab.
func (b *Browser) Open(address string, look Look) *Tab {
	t := b.t
	t.Helper()
	tab := &Tab{t: t, look: look, received: make(map[network.RequestID]float64)}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithNewBrowserContext(), chromedp.WithListener(tab.listen))
	t.Cleanup(cancel)
	tab.ctx = ctx
	if err := chromedp.Do(ctx); err != nil { // a timeout here would later close the tab, see chromedp.Run
		t.Fatalf("opening a tab: %v", err)
	}
	theme := "light"
	if look.Dark {
		theme = "dark"
	}
	call(tab, network.Enable, network.EnableParams{})
	call(tab, log.Enable, cdp.Empty{})
	call(tab, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
	tab.resize(look.Width, look.Height)
	call(tab, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: "test", AcceptLanguage: look.Language})
	call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
	})
	run(tab, "opening "+address, chromedp.Navigate(address))
	return tab
}

// run runs an action in the tab. The test fails if the action does not succeed.
func run[T any](tab *Tab, what string, action chromedp.Action[T]) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, actionTimeout)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if err != nil {
		tab.t.Fatalf("%s: %v", what, err)
	}
	return result
}

// call sends a command of the protocol.
func call[P, R any](tab *Tab, command cdp.Command[P, R], parameters P) R {
	tab.t.Helper()
	return run(tab, command.Method, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, parameters)
	})
}

func (tab *Tab) listen(event any) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		tab.requests = append(tab.requests, e.Request.URL)
	case *network.EventDataReceived:
		tab.received[e.RequestID] += float64(e.EncodedDataLength)
	case *network.EventLoadingFinished:
		tab.received[e.RequestID] = e.EncodedDataLength
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			var text []string
			for _, arg := range e.Args {
				text = append(text, string(arg.Value))
			}
			tab.problems = append(tab.problems, "console: "+strings.Join(text, " "))
		}
	case *runtime.EventExceptionThrown:
		tab.problems = append(tab.problems, fmt.Sprintf("exception: %s %s (%s:%d)",
			e.ExceptionDetails.Text, describe(e.ExceptionDetails.Exception), e.ExceptionDetails.URL, e.ExceptionDetails.LineNumber+1))
	case *log.EventEntryAdded:
		// This includes violations of the security policy.
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			tab.problems = append(tab.problems, fmt.Sprintf("%s: %s (%s)", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	}
}

// Problems returns errors and warnings of the console, exceptions, and violations of the
// page's security policy.
func (tab *Tab) Problems() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return append([]string(nil), tab.problems...)
}

// Requests returns the addresses that the page requested.
func (tab *Tab) Requests() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return append([]string(nil), tab.requests...)
}

// Received returns the number of bytes received over the network.
func (tab *Tab) Received() (bytes float64) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	for _, n := range tab.received {
		bytes += n
	}
	return bytes
}

// Eval returns the value of an expression. It awaits a promise.
func Eval[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	return run(tab, "evaluating "+clip(expression), chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Reload reloads the page.
func (tab *Tab) Reload() {
	tab.t.Helper()
	run(tab, "reloading", chromedp.Reload())
}

// Press presses keys, with the names of package kb.
func (tab *Tab) Press(keys string) {
	tab.t.Helper()
	run(tab, "pressing keys", chromedp.KeyEvent(keys))
}

// Text returns the text of the first element that matches a selector.
func (tab *Tab) Text(selector string) string {
	tab.t.Helper()
	return Eval[string](tab, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector))
}

// Until waits until an expression is true. The test fails if that takes longer than within.
func (tab *Tab) Until(within time.Duration, expression string) {
	tab.t.Helper()
	began := time.Now()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if Eval[bool](tab, "Boolean("+expression+")") {
			return
		}
		if time.Since(began) > within {
			tab.Shot("failed-" + strings.ReplaceAll(tab.t.Name(), "/", "-"))
			tab.t.Fatalf("not within %v: %s\nproblems: %q\n%s", within, expression, tab.Problems(), tab.Text("body"))
		}
		<-ticker.C
	}
}

// Shot saves a picture of the visible part of the page, in the directory that [ShotsEnv] names.
func (tab *Tab) Shot(name string) {
	tab.t.Helper()
	picture := call(tab, page.CaptureScreenshot, page.CaptureScreenshotParams{}).Data
	dir := os.Getenv(ShotsEnv)
	if dir == "" {
		dir = tab.t.ArtifactDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		tab.t.Fatalf("saving a picture: %v", err)
	}
	file := filepath.Join(dir, name+".png")
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		tab.t.Fatalf("saving a picture: %v", err)
	}
}

// FullShot saves a picture of the whole page, in a window that is high enough for it. ready is an
// expression that is true when the page has drawn what the higher window shows.
func (tab *Tab) FullShot(name, ready string) {
	tab.t.Helper()
	content := call(tab, page.GetLayoutMetrics, cdp.Empty{}).CSSContentSize
	tab.resize(int(content.Width), int(content.Height)+1)
	defer tab.resize(tab.look.Width, tab.look.Height)
	tab.Until(actionTimeout, ready)
	tab.Shot(name)
}

func (tab *Tab) resize(width, height int) {
	call(tab, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(width), Height: int64(height), DeviceScaleFactor: cmp.Or(tab.look.Scale, 1), Mobile: tab.look.Width < 600,
	})
}

// Busy returns the CPU time that the page's main thread has used.
func (tab *Tab) Busy() time.Duration {
	tab.t.Helper()
	for _, m := range call(tab, performance.GetMetrics, cdp.Empty{}).Metrics {
		if m.Name == "TaskDuration" {
			return time.Duration(m.Value * float64(time.Second))
		}
	}
	tab.t.Fatal("no metric TaskDuration")
	return 0
}

func describe(o *runtime.RemoteObject) string {
	if o == nil {
		return ""
	}
	return o.Description
}

func clip(s string) string {
	if len(s) > 120 {
		return s[:120] + "..."
	}
	return s
}

//go:build system

package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/web/internal/chromium"
)

// TestThePageTellsOfAnOutage checks that the page says in both languages since when a pool is down,
// why, and at what cost, and that the budget of another pool burns.
func TestThePageTellsOfAnOutage(t *testing.T) {
	now := time.Now()
	s := showcase(now)
	cause := object{"what": "503", "method": "POST", "path": "/v1/chat", "count": 65, "at": now}
	geo, llm := s.pools[0], s.pools[1]
	geo["sla"] = standing(0.9995, 0.5, 829, true)
	one := llm["endpoints"].([]object)[0]
	one["down_since"], one["cause"] = now.Add(-5*time.Minute), cause
	llm["down"] = true
	s.incidents = nil
	llm["incident"] = object{
		"id": 7, "pool": "llm", "kind": "down", "start": now.Add(-5 * time.Minute), "cause": "503 from POST /v1/chat",
		"endpoints": []object{}, "down_seconds": 290, "calls_failed": 1495, "calls_saved": 12,
	}
	s.happen(now, "breaker_opened", "llm", object{
		"endpoint": "openai", "reason": "check_failed", "incident": 7,
		"details": object{"cause": "503", "method": "POST", "path": "/v1/chat"},
	})
	s.happen(now, "pool_up", "llm", object{"incident": 7, "details": object{"down_seconds": 290.5, "calls_failed": 1495, "by": "one"}})
	for language, want := range map[string][]string{
		"en": {"(5 min): 503 from POST /v1/chat", "1495 requests failed, 12 saved by failover", "health checks failed · 503 from POST /v1/chat",
			"llm answers again", "error budget burns at 829×", "1 pool is down · 1 pool needs attention · 2 error budgets burn", "Error budget overspent 999×"},
		"zh-CN": {"5 分钟）：POST /v1/chat 得到 503", "1495 个请求失败，故障转移挽回 12 个", "健康检查失败 · POST /v1/chat 得到 503",
			"llm 恢复应答", "错误预算消耗速度为允许值的 829 倍", "错误预算已超支 999×"},
	} {
		s.change(func() { llm["down"] = true })
		address := serve(t, s)
		tab := chromium.Start(t).Open(address, chromium.Look{Width: 1440, Height: 900, Language: language})
		tab.Until(30*time.Second, charted)
		chromium.Eval[any](tab, "document.querySelectorAll('.group details').forEach((d) => { d.open = true })")
		tab.Until(30*time.Second, `document.querySelectorAll('[data-incident="7"].event').length === 2`)
		text := chromium.Eval[string](tab, "document.body.textContent")
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: the page does not say %q", language, w)
			}
		}
		for _, bad := range []string{"check_failed", "check failed", "100.000%", "undefined", "NaN"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s: the page says %q", language, bad)
			}
		}
		s.change(func() { llm["down"] = false })
		still := map[string]string{"en": "Pool was down, some endpoints still are", "zh-CN": "端点池曾不可用，仍有端点不可用"}[language]
		tab.Until(30*time.Second, "document.querySelector('.group[data-incident]').textContent.includes('"+still+"')")
		behaved(t, tab, address)
	}
}

// The page's words in English and Chinese, and its formats of numbers and times.
// docs/glossary.zh-CN.md lists the Chinese words of the product.

const en = {
  title: 'Failover',
  skip: 'Skip to the pools',
  pools: 'Pools',
  pool: 'Pool',
  'all-pools': 'All pools',
  language: 'Language',
  theme: 'Theme',
  'theme.auto': 'System',
  'theme.light': 'Light',
  'theme.dark': 'Dark',

  'link.connecting': 'Connecting',
  'link.live': 'Live',
  'link.stale': 'No news for {for}',
  'link.lost': 'Disconnected',
  'stale.silent': 'No news for {for}. What you see is from {at}.',
  'stale.lost': 'The connection is lost. What you see is from {at}, {for} ago. Trying again.',
  'stale.never': 'The proxy does not answer. Trying again.',
  'stale.back': 'Connected again.',
  waiting: 'Waiting for the first snapshot',
  'no-pools': 'No pool is configured yet.',
  'no-pools.hint': 'A pool appears here as soon as a failover directive or an lb_policy failover is loaded.',

  'all.good': 'All pools answer',
  'all.warn.1': '1 pool needs attention',
  'all.warn': '{n} pools need attention',
  'all.bad.1': '1 pool is down',
  'all.bad': '{n} pools are down',

  'verdict.first': 'Answers from tier 1',
  'verdict.spread': 'Answers from tiers {tiers}',
  'verdict.lower': 'Answers from tier {tier}: the tiers before it are out',
  'verdict.down': 'Down: every endpoint is out',
  'verdict.down-scopes': 'Down: no endpoint takes requests of {scopes}',
  'verdict.scopes': 'Degraded: no endpoint takes requests of {scopes}',
  remedy: 'What helps: {what}',
  'remedy.host': 'check the name of its host in the configuration, and the DNS of this machine',
  'remedy.refused': 'check that it runs, and that its address and port are right',
  'remedy.reach': 'check that this machine can reach its address and port',
  'remedy.tls': 'check its certificate, and the clock and the CA certificates of this machine',
  'remedy.denied': 'check its key and the account at its provider; then reload Caddy, or restart it if the key is in the environment',
  'remedy.limited': 'send it fewer requests (limit, max_requests), or give it another key',
  'remedy.closed': 'look at its log, and at proxies between here and there: it ends connections early',
  'remedy.status': 'look at its log, or at the status page of its provider',
  'remedy.slow': 'look at its load, and at the network between here and there',
  'remedy.check': 'request the uri of its health check yourself',
  'verdict.idle': 'No endpoint has weight',

  'verdict.burning': 'error budget burns at {rate}×',

  'incident.down': 'Down since {at} ({for}): {cause}',
  'incident.degraded': 'Endpoints out since {at} ({for}): {cause}',
  'incident.cost': '{failed} requests failed, {saved} saved by failover',
  'down-since': 'Down since {at} ({for}): {cause}',

  tier: 'Tier {n}',
  'of-traffic': '{share} of traffic',
  traffic: 'Traffic',
  'traffic.now': 'Traffic now: {list}',
  'traffic.none': 'Traffic now: none, every endpoint is out',
  'traffic.out': 'No endpoint gets requests',
  calls: 'Requests',
  'per-second': '{n}/s',
  'waiting-calls': 'Waiting',
  'waiting-calls.hint': 'Requests that wait for an endpoint',
  'retries-denied': 'Retries denied',
  'retries-denied.hint': 'Retries that the budget did not allow',

  sla: 'SLA',
  objective: 'Objective',
  'objective.availability': 'Availability {objective}',
  'objective.latency': '{quantile} within {target}',
  'over-window': '{objective} over {window}',
  achieved: 'Achieved',
  'budget-left': 'Error budget left',
  'budget-overspent': 'Error budget overspent',
  burn: 'Burn rate',
  'burn.hint': 'How fast the budget is spent; at 1× it lasts exactly as long as the window',
  burning: 'Burning',

  'state.closed': 'In service',
  'state.open': 'Out',
  'state.recovering': 'On trial',
  'state.forced_open': 'Taken out',
  'state.forced_closed': 'Kept in service',
  'state.held': 'In cooldown',
  'state.draining': 'Draining',
  'state.idle': 'In service, no traffic',

  'note.open': 'tried again in {in}',
  'note.due': 'tried by the next request',
  'note.trial': 'waiting for a trial request to succeed',
  'note.recovering': 'allowed {share} of its normal traffic',
  'note.held': 'asked to be left alone; next request in {in}',
  'note.passed': 'requests move on from its responses; one tries it in {in}',
  'note.passed.due': 'requests move on from its responses; the next one tries it',
  'note.forced': 'kept so until undone',
  'note.until': 'until {at}, {in} left',
  'note.until-short': 'until {at}',
  'note.draining': 'no new requests; {n} still in flight',
  'note.score': 'gets less than its share: score {score}',

  'operator.drain': 'Drained by an operator',
  'operator.trip': 'Taken out by an operator',
  'operator.enable': 'Kept in service by an operator',
  'operator.weight': 'Weight set to {to} by an operator, configured {from}',
  'operator.priority': 'Priority set to {to} by an operator, configured {from}',
  'schedule.drain': 'Drained by schedule',
  'limit.requests': '{left} of {amount} requests left in {per}',
  'schedule.weight': 'Weight {to} by schedule',
  'schedule.priority': 'Priority {to} by schedule',

  success: 'Success',
  latency: 'Latency',
  'chart.success': 'Success ratio over {span}: {all} of all requests, {worst} at its worst, at {at}',
  'chart.success.none': 'Success ratio over {span}: no requests',
  'chart.latency': 'Latency over {span}: median {p50}, 95th percentile {p95}, {worst} at its worst, at {at}',
  'chart.latency.none': 'Latency over {span}: unknown',
  now: 'now',
  'no-calls': 'no requests',

  'in-flight': 'In flight',
  cancelled: 'Cancelled',
  'cancelled.hint': 'Attempts without a result: the client left, or another attempt took over',
  score: 'Score',
  weight: 'Weight',
  check: 'Check',
  'check.up': 'up',
  'check.down': 'down',
  'check.undecided': 'undecided',
  'last-attempts': 'Last attempts',
  'last-attempts.all-good': 'Last {n} attempts, all successes',
  'last-attempts.some': 'Last {n} attempts, of which failed: {list}',
  'last-attempts.none': 'No attempts yet',

  events: 'Incidents and events',
  'events.none': 'Nothing has happened yet.',
  'events.none-of': 'Nothing matches.',
  'event.failover': '{endpoint} → {to}',
  'event.breaker_opened': '{endpoint} is out',
  'event.breaker_recovering': '{endpoint} is on trial',
  'event.breaker_closed': '{endpoint} is in service again',
  'event.endpoint_held': '{endpoint} is in cooldown',
  'event.sla_burning': '{subject} burns its error budget',
  'event.sla_met_again': '{subject} meets its objective again',
  'event.anomaly': 'Unusual: {subject}',
  'event.pool_up': '{subject} answers again',
  'event.incident_over': 'Incident of {subject} is over',
  'event.down-for': 'down for {for}',
  'event.calls-failed': '{n} requests failed',
  'event.all_down': 'No endpoint takes requests',
  'event.scheduled': '{endpoint} by schedule',
  'event.fleet_lost': 'Connection to fleet {fleet} is lost',
  'event.fleet_full': 'Fleet {fleet} can store nothing',
  'event.fleet_back': 'Connected to fleet {fleet} again',
  'ordered.drain': '{subject} drained',
  'ordered.trip': '{subject} taken out',
  'ordered.enable': '{subject} enabled',
  'ordered.reset': '{subject} reset',
  'ordered.set': '{subject}: {settings}',
  'ordered.drain_over': '{subject} is no longer drained',
  'ordered.trip_over': '{subject} is no longer taken out',
  'ordered.enable_over': '{subject} is no longer kept in service',
  'ordered.weight_over': '{subject} has its configured weight again',
  'ordered.priority_over': '{subject} has its configured priority again',
  'setting.weight': 'weight {value}',
  'setting.priority': 'priority {value}',
  configured: 'as configured',
  times: '×{n}',
  'times.hint': '{n} times',

  'error.connection refused': 'connection refused',
  'error.no such host': 'no such host',
  'error.certificate has expired': 'certificate has expired',
  'error.connection reset': 'connection reset',
  'error.connection reset by peer': 'connection reset',
  'error.broken pipe': 'connection closed while sending',
  'error.network is unreachable': 'network is unreachable',
  'error.no route to host': 'no route to the host',
  'error.connection closed before a response': 'connection closed before a response',
  'error.connection closed in mid-response': 'connection closed in the middle of a response',
  'error.connecting timed out': 'connecting timed out',
  'error.TLS handshake timed out': 'TLS handshake timed out',
  'error.looking up the host timed out': 'looking up the host timed out',
  'error.the endpoint does not speak TLS': 'the endpoint does not speak TLS',
  'error.certificate is for another host': 'certificate is for another host',
  'error.certificate of an unknown authority': 'certificate of an unknown authority',
  'error.certificate is not valid yet': 'certificate is not valid yet',
  'error.HTTP/2 connection ended by the endpoint': 'HTTP/2 connection ended by the endpoint',
  'error.unknown error': 'unknown error',
  'error.unexpected body': 'unexpected body',
  'error.timeout': 'timeout',
  'error.silent for': 'silent for {span}',
  'error.at the deadline': 'timeout after {span}, at the deadline of the request',
  'error.with an error': '{status} with an error in the body',
  'error.bad status': 'status {status}',
  'error.body at': 'body at {rate} bytes/s',
  'error.timeout after': 'timeout after {span}',
  'error.no response within': 'no response within {span}',
  'error.client left after': 'client left after {span}',
  scoped: '{endpoint} for {scope}',
  'cause.scope': '{cause} (scope {scope})',
  'note.quota': 'its quota is used up; next request in {in}',
  'note.refused': 'another instance was refused with its credentials; next request in {in}',
  'reason.failed_while_wary': 'failed while other instances had it out',
  'reason.scopes': 'out for all its scopes',
  'reason.forgotten': 'no longer used',
  'reason.quota': 'quota used up',
  'cause.from': '{what} from {request}',
  'cause.status': '{what} from {request}',
  'reason.check_failed': 'health checks failed',
  'reason.dial': 'could not connect',
  'reason.tls': 'TLS failed',
  'reason.timeout': 'timed out',
  'reason.reset': 'connection reset',
  'reason.status': 'failure status',
  'reason.rate_limited': 'rate limited',
  'reason.denied': 'credentials refused',
  'reason.truncated': 'response cut short',
  'reason.stalled': 'response stalled',
  'reason.cancelled': 'client left',
  'reason.success': 'success',
  'reason.availability': 'availability',
  'reason.latency': 'latency',
  'reason.traffic': 'traffic',
  'reason.flapping': 'flapping',
  'reason.consecutive_failures': 'failures in a row',
  'reason.failure_ratio': 'many failures',
  'reason.slow': 'too slow',
  'reason.slower_than_usual': 'far slower than usual',
  'reason.unanswered': 'clients gave up waiting',
  'reason.breaker_off': 'the breaker is off',
  'reason.next_on': 'another may respond better',
  'reason.lb_retry_match': 'lb_retry_match rejects the response',
  'reason.rescued': 'did not wait for its timeout',
  'reason.breaker': 'all out',
  'reason.hold': 'all in cooldown',
  'reason.breaker_and_hold': 'out or in cooldown',
  'reason.degraded': 'endpoints were out',
  'reason.down': 'the pool was down',
  'reason.health_check': 'health checks failed',
  'reason.checks_failed': 'health checks failed',
  'reason.checks_passed': 'health checks pass again',
  'reason.open_period_over': 'open period is over',
  'reason.all_down': 'every endpoint is out',
  'reason.trial_failed': 'trial failed',
  'reason.relapse': 'failed again while recovering',
  'reason.recovered': 'recovered',
  'reason.operator': 'by an operator',
  'reason.drain': 'drained',
  'reason.weight': 'weight changed',
  'reason.priority': 'priority changed',
  'reason.drain_over': 'no longer drained',
  'reason.weight_over': 'weight as configured again',
  'reason.priority_over': 'priority as configured again',

  footer: 'Times are {zone}.',
  licences: 'uPlot (MIT), Geist (OFL)',
  list: ', ',

  view: 'View',
  'view.cards': 'Cards',
  'view.cards.hint': 'Show endpoints as cards',
  'view.table': 'Table',
  'view.table.hint': 'Show endpoints as a table',
  'all.burning.1': '1 error budget burns',
  'all.burning': '{n} error budgets burn',
  'incident.down.on': 'Pool is down',
  'incident.down.up': 'Pool was down, some endpoints still are',
  'incident.down.over': 'Pool was down',
  'incident.degraded.on': 'Endpoints are out',
  'incident.degraded.over': 'Endpoints were out',
  'incident.since': 'since {at} ({for})',
  'incident.span': '{from} – {to} ({for})',
  failovers: '{n} failovers',
  report: 'SLA report',
  'chart.budget': 'Error budget over {window}: {left} is left; it fell most at {at}, by {fall} points',
  'chart.budget.whole': 'Error budget over {window}: {left} is left',
  breaker: 'Breaker',
  'breaker.closed': 'closed',
  'breaker.open': 'open',
  'breaker.recovering': 'recovering',
  'breaker.forced_open': 'forced open',
  'breaker.forced_closed': 'forced closed',
  'limit.tokens': '{left} of {amount} tokens left in {per}',
  'limit.other': '{left} of {amount} {of} left in {per}',
  quota: 'Provider: {left} of {amount} {of} left',
  'quota.some': 'Provider: {left} {of} left',
  'quota.back': 'Provider: {of} used up, back at {at}',
  'of.requests': 'requests',
  'of.tokens': 'tokens',
  'of.input tokens': 'input tokens',
  'of.output tokens': 'output tokens',
  'fleet.open': 'Out at {open} of {instances} instances',
  'fleet.wary': 'Out at {open} of {instances} instances; careful here',
  'scope.ill': 'Scope {scope}: {state}{notes}',
  ago: '{span} ago',
  span: 'Time span',
  'span.1h': 'the last hour',
  'span.24h': 'the last 24 hours',
  'span.30d': 'the last 30 days',
  'span.short.1h': '1 h',
  'span.short.24h': '24 h',
  'span.short.30d': '30 d',
  'span.sum': '{n} requests, {failed} failed, {success} success',
  'score.none': 'An endpoint without requests has no score',
  rate: 'Rate',
  share: 'Allowed share',
  p50: 'p50',
  p95: 'p95',
  p99: 'p99',
  attempts: 'Attempts',
  failures: 'Failures',
  'table.of': 'Endpoints of {pool}',
  'success.hint': 'Over the last hour',
  'column.endpoint': 'Endpoint',
  'column.state': 'State',
  'column.tier': 'Tier',
  'column.traffic': 'Traffic',
  'column.rate': 'Rate',
  'column.success': 'Success',
  'column.p50': 'p50',
  'column.p95': 'p95',
  'column.in-flight': 'In flight',
  'column.score': 'Score',
  'column.note': 'Why',
  'column.time': 'Time',
  'column.failure': 'Failure',
  'column.request': 'Request',
  'column.outcome': 'Kind',
  'column.scope': 'Scope',
  'column.attempts': 'Attempts',
  'endpoint.gone': 'This pool has no such endpoint now.',
  back: '← All pools',
  'in-pool': 'in pool {pool}',
  'over-time': 'Success and latency',
  scopes: 'Scopes',
  limits: 'Limits and quotas',
  orders: 'Operator actions and schedule',
  'orders.none': 'None in force.',
  'failures.recent': 'Recent failures',
  'failures.none': 'No failure is remembered.',
  'detail.waiting': 'Reading ...',
  'detail.failed': 'The proxy does not give the details: {problem}',
  actions: 'Actions',
  'actions.of': 'Actions for {endpoint}',
  'act.title': 'Action for {endpoint}',
  'act.pool': 'Pool {pool}',
  'act.what': 'What',
  'act.drain': 'Drain',
  'act.drain.hint': 'no new requests; those in flight finish',
  'act.out': 'Force out',
  'act.out.hint': 'no requests, whatever its state',
  'act.in': 'Force in',
  'act.in.hint': 'gets requests even if they fail',
  'act.weight': 'Weight',
  'act.weight.hint': 'its part of the tier',
  'act.priority': 'Priority',
  'act.priority.hint': 'its tier; 1 comes first',
  'act.undo': 'Undo',
  'act.undo.hint': 'end all operator actions on it',
  'act.for': 'For',
  'act.why': 'Reason',
  'act.why.hint': 'Shown on the page, in events and in the log.',
  'act.why.missing': 'Give a reason.',
  'act.failed': 'That did not work: {problem}',
  'act.do': 'Do it',
  'act.cancel': 'Cancel',
  'for.ever': 'until undone',
  'for.10m': '10 minutes',
  'for.1h': '1 hour',
  'for.8h': '8 hours',
  'for.24h': '24 hours',
  'events.forgotten': 'Its events are no longer kept.',
  'all-endpoints': 'All endpoints',
  kind: 'Kind',
  'all-kinds': 'All kinds',
  'kind.incident': 'Incidents',
  'kind.failover': 'Failovers',
  'kind.breaker': 'In and out of service',
  'kind.pool': 'Pool down and up',
  'kind.cooldown': 'Cooldowns',
  'kind.budget': 'Error budgets',
  'kind.anomaly': 'Anomalies',
  'kind.operator': 'Operators and schedules',
  'reason.full': 'all endpoints are full',
  'reason.unsent': 'not sent',
  'footer.read-only': 'Read only. Times are {zone}.',
};

const zh = {
  title: '故障转移',
  skip: '跳到端点池',
  pools: '端点池',
  pool: '端点池',
  'all-pools': '全部端点池',
  language: '语言',
  theme: '主题',
  'theme.auto': '跟随系统',
  'theme.light': '浅色',
  'theme.dark': '深色',

  'link.connecting': '连接中',
  'link.live': '实时',
  'link.stale': '{for}没有新数据',
  'link.lost': '连接已断开',
  'stale.silent': '{for}没有新数据。当前显示的是 {at} 的状态。',
  'stale.lost': '连接已断开。当前显示的是 {at} 的状态（{for}前）。正在重试。',
  'stale.never': '代理没有响应。正在重试。',
  'stale.back': '连接已恢复。',
  waiting: '正在等待第一份快照',
  'no-pools': '尚未配置任何端点池。',
  'no-pools.hint': '加载 failover 指令或 lb_policy failover 之后，端点池会立即出现在这里。',

  'all.good': '所有端点池均正常应答',
  'all.warn': '{n} 个端点池需要关注',
  'all.bad': '{n} 个端点池不可用',

  'verdict.first': '由第 1 层级应答',
  'verdict.spread': '由第 {tiers} 层级应答',
  'verdict.lower': '由第 {tier} 层级应答：之前的层级均不可用',
  'verdict.down': '不可用：没有任何端点可以接收请求',
  'verdict.down-scopes': '不可用：没有任何端点接收 {scopes} 的请求',
  'verdict.scopes': '降级：没有任何端点接收 {scopes} 的请求',
  remedy: '建议：{what}',
  'remedy.host': '检查配置里的主机名，以及本机的 DNS',
  'remedy.refused': '检查它是否在运行，地址和端口是否正确',
  'remedy.reach': '检查本机能否连到它的地址和端口',
  'remedy.tls': '检查它的证书，以及本机的时钟和 CA 证书',
  'remedy.denied': '检查它的密钥和服务商账户，然后重新加载 Caddy；如果密钥来自环境变量，则重启 Caddy',
  'remedy.limited': '少发一些请求（limit、max_requests），或者再给它一个密钥',
  'remedy.closed': '查看它的日志，以及中间的代理：它过早关闭连接',
  'remedy.status': '查看它的日志，或服务商的状态页面',
  'remedy.slow': '查看它的负载，以及到它的网络',
  'remedy.check': '亲自请求一次健康检查的 uri',
  'verdict.idle': '所有端点的权重均为 0',

  'verdict.burning': '错误预算消耗速度为允许值的 {rate} 倍',

  'incident.down': '自 {at} 起不可用（{for}）：{cause}',
  'incident.degraded': '自 {at} 起有端点不可用（{for}）：{cause}',
  'incident.cost': '{failed} 个请求失败，故障转移挽回 {saved} 个',
  'down-since': '自 {at} 起不可用（{for}）：{cause}',

  tier: '第 {n} 层级',
  'of-traffic': '占流量 {share}',
  traffic: '流量',
  'traffic.now': '当前流量：{list}',
  'traffic.none': '当前没有流量：所有端点均不可用',
  'traffic.out': '没有端点接收请求',
  calls: '请求',
  'per-second': '{n}/秒',
  'waiting-calls': '等待中',
  'waiting-calls.hint': '正在等待可用端点的请求',
  'retries-denied': '被拒重试',
  'retries-denied.hint': '超出重试预算而未进行的重试',

  sla: 'SLA',
  objective: '目标',
  'objective.availability': '可用性 {objective}',
  'objective.latency': '延迟 {quantile} 不超过 {target}',
  'over-window': '{window}内{objective}',
  achieved: '实际',
  'budget-left': '剩余错误预算',
  'budget-overspent': '错误预算已超支',
  burn: '消耗速率',
  'burn.hint': '错误预算的消耗速度；为 1× 时恰好用满整个周期',
  burning: '消耗过快',

  'state.closed': '正常服务',
  'state.open': '已摘除',
  'state.recovering': '试探中',
  'state.forced_open': '人工摘除',
  'state.forced_closed': '人工保持服务',
  'state.held': '冷却中',
  'state.draining': '排空中',
  'state.idle': '正常服务，不接收流量',

  'note.open': '{in}后再次试探',
  'note.due': '由下一个请求试探',
  'note.trial': '等待一次试探请求成功',
  'note.recovering': '允许正常流量的 {share}',
  'note.held': '端点要求等待；{in}后恢复请求',
  'note.passed': '请求因其应答而转往他处；{in}后由一个请求试探',
  'note.passed.due': '请求因其应答而转往他处；由下一个请求试探',
  'note.forced': '保持此状态，直到撤销',
  'note.until': '至 {at}，还有 {in}',
  'note.until-short': '至 {at}',
  'note.draining': '不接收新请求；{n} 个仍在进行',
  'note.score': '所得流量低于其份额：评分 {score}',

  'operator.drain': '运维人员已排空',
  'operator.trip': '运维人员已摘除',
  'operator.enable': '运维人员保持其服务',
  'operator.weight': '运维人员将权重设为 {to}（配置为 {from}）',
  'operator.priority': '运维人员将优先级设为 {to}（配置为 {from}）',
  'schedule.drain': '按计划排空',
  'limit.requests': '{per}内还可发 {left} 个请求（共 {amount}）',
  'schedule.weight': '按计划权重为 {to}',
  'schedule.priority': '按计划优先级为 {to}',

  success: '成功率',
  latency: '延迟',
  'chart.success': '{span}成功率：总体 {all}，最低 {worst}（{at}）',
  'chart.success.none': '{span}成功率：没有请求',
  'chart.latency': '{span}延迟：中位数 {p50}，95 分位 {p95}，最高 {worst}（{at}）',
  'chart.latency.none': '{span}延迟：未知',
  now: '现在',
  'no-calls': '没有请求',

  'in-flight': '进行中',
  cancelled: '取消',
  'cancelled.hint': '没有结果的尝试：客户端已离开，或由另一次尝试接替',
  score: '评分',
  weight: '权重',
  check: '检查',
  'check.up': '正常',
  'check.down': '失败',
  'check.undecided': '未定',
  'last-attempts': '最近尝试',
  'last-attempts.all-good': '最近 {n} 次尝试全部成功',
  'last-attempts.some': '最近 {n} 次尝试中的失败：{list}',
  'last-attempts.none': '尚无尝试',

  events: '事故与事件',
  'events.none': '尚未发生任何事件。',
  'events.none-of': '没有符合条件的内容。',
  'event.failover': '{endpoint} → {to}',
  'event.breaker_opened': '{endpoint} 已摘除',
  'event.breaker_recovering': '{endpoint} 正在试探',
  'event.breaker_closed': '{endpoint} 恢复服务',
  'event.endpoint_held': '{endpoint} 进入冷却',
  'event.sla_burning': '{subject} 的错误预算消耗过快',
  'event.sla_met_again': '{subject} 重新达到目标',
  'event.anomaly': '异常：{subject}',
  'event.pool_up': '{subject} 恢复应答',
  'event.incident_over': '{subject} 的事故已结束',
  'event.down-for': '不可用 {for}',
  'event.calls-failed': '{n} 个请求失败',
  'event.all_down': '没有任何端点接收请求',
  'event.scheduled': '{endpoint} 按计划变更',
  'event.fleet_lost': '与集群 {fleet} 的连接已中断',
  'event.fleet_full': '集群 {fleet} 无法存储数据',
  'event.fleet_back': '与集群 {fleet} 的连接已恢复',
  'ordered.drain': '已排空 {subject}',
  'ordered.trip': '已摘除 {subject}（熔断）',
  'ordered.enable': '已启用 {subject}',
  'ordered.reset': '已重置 {subject}',
  'ordered.set': '{subject}：{settings}',
  'ordered.drain_over': '{subject} 结束排空',
  'ordered.trip_over': '{subject} 结束摘除',
  'ordered.enable_over': '{subject} 不再保持服务',
  'ordered.weight_over': '{subject} 恢复配置的权重',
  'ordered.priority_over': '{subject} 恢复配置的优先级',
  'setting.weight': '权重 {value}',
  'setting.priority': '优先级 {value}',
  configured: '按配置',
  times: '×{n}',
  'times.hint': '{n} 次',

  'error.connection refused': '连接被拒绝',
  'error.no such host': '主机不存在',
  'error.certificate has expired': '证书已过期',
  'error.connection reset': '连接被重置',
  'error.connection reset by peer': '连接被重置',
  'error.broken pipe': '发送中连接被关闭',
  'error.network is unreachable': '网络不可达',
  'error.no route to host': '没有到主机的路由',
  'error.connection closed before a response': '未应答就关闭了连接',
  'error.connection closed in mid-response': '应答中途关闭了连接',
  'error.connecting timed out': '连接超时',
  'error.TLS handshake timed out': 'TLS 握手超时',
  'error.looking up the host timed out': '查询主机名超时',
  'error.the endpoint does not speak TLS': '端点不支持 TLS',
  'error.certificate is for another host': '证书属于另一主机',
  'error.certificate of an unknown authority': '证书由未知机构签发',
  'error.certificate is not valid yet': '证书尚未生效',
  'error.HTTP/2 connection ended by the endpoint': 'HTTP/2 连接被端点结束',
  'error.unknown error': '未知错误',
  'error.unexpected body': '应答体不符',
  'error.timeout': '超时',
  'error.silent for': '{span} 内没有新数据',
  'error.at the deadline': '{span} 后到达请求的时限',
  'error.with an error': '{status}，应答体含有错误',
  'error.bad status': '状态码 {status}',
  'error.body at': '应答体速度仅 {rate} 字节/秒',
  'error.timeout after': '{span} 后超时',
  'error.no response within': '{span} 内没有应答',
  'error.client left after': '{span} 后客户端离开',
  scoped: '{endpoint}（{scope}）',
  'cause.scope': '{cause}（范围 {scope}）',
  'note.quota': '配额已用完；{in}后恢复请求',
  'note.refused': '另一实例用它的凭据被拒；{in}后恢复请求',
  'reason.failed_while_wary': '其他实例已将其摘除，此处又失败',
  'reason.scopes': '所有范围均已摘除',
  'reason.forgotten': '不再使用',
  'reason.quota': '配额已用完',
  'cause.from': '{request} {what}',
  'cause.status': '{request} 得到 {what}',
  'reason.check_failed': '健康检查失败',
  'reason.dial': '无法连接',
  'reason.tls': 'TLS 失败',
  'reason.timeout': '超时',
  'reason.reset': '连接被重置',
  'reason.status': '失败状态码',
  'reason.rate_limited': '被限流',
  'reason.denied': '凭据被拒',
  'reason.truncated': '应答不完整',
  'reason.stalled': '应答停滞',
  'reason.cancelled': '客户端离开',
  'reason.success': '成功',
  'reason.availability': '可用性',
  'reason.latency': '延迟',
  'reason.traffic': '流量',
  'reason.flapping': '状态抖动',
  'reason.consecutive_failures': '连续失败',
  'reason.failure_ratio': '失败率过高',
  'reason.slow': '过慢',
  'reason.slower_than_usual': '远慢于平常',
  'reason.unanswered': '客户端等不到应答',
  'reason.breaker_off': '熔断器已关闭',
  'reason.next_on': '其他端点的应答可能更好',
  'reason.lb_retry_match': '应答被 lb_retry_match 拒绝',
  'reason.rescued': '未等超时即转走',
  'reason.breaker': '均已摘除',
  'reason.hold': '均在冷却',
  'reason.breaker_and_hold': '摘除或冷却',
  'reason.degraded': '有端点不可用',
  'reason.down': '端点池曾不可用',
  'reason.health_check': '健康检查失败',
  'reason.checks_failed': '健康检查失败',
  'reason.checks_passed': '健康检查恢复通过',
  'reason.open_period_over': '断开期结束',
  'reason.all_down': '所有端点均不可用',
  'reason.trial_failed': '试探失败',
  'reason.relapse': '恢复中再次失败',
  'reason.recovered': '已恢复',
  'reason.operator': '运维操作',
  'reason.drain': '排空',
  'reason.weight': '权重已变',
  'reason.priority': '优先级已变',
  'reason.drain_over': '不再排空',
  'reason.weight_over': '权重恢复为配置值',
  'reason.priority_over': '优先级恢复为配置值',

  footer: '时间为 {zone}。',
  licences: 'uPlot (MIT)、Geist (OFL)',
  list: '、',

  view: '视图',
  'view.cards': '卡片',
  'view.cards.hint': '以卡片显示端点',
  'view.table': '表格',
  'view.table.hint': '以表格显示端点',
  'all.burning': '{n} 个错误预算消耗过快',
  'incident.down.on': '端点池不可用',
  'incident.down.up': '端点池曾不可用，仍有端点不可用',
  'incident.down.over': '端点池曾不可用',
  'incident.degraded.on': '有端点不可用',
  'incident.degraded.over': '曾有端点不可用',
  'incident.since': '自 {at} 起（{for}）',
  'incident.span': '{from} – {to}（{for}）',
  failovers: '{n} 次故障转移',
  report: 'SLA 报告',
  'chart.budget': '{window}内的错误预算：剩余 {left}；{at} 降幅最大，达 {fall} 个百分点',
  'chart.budget.whole': '{window}内的错误预算：剩余 {left}',
  breaker: '熔断器',
  'breaker.closed': '闭合',
  'breaker.open': '断开',
  'breaker.recovering': '恢复中',
  'breaker.forced_open': '强制断开',
  'breaker.forced_closed': '强制闭合',
  'limit.tokens': '{per}内还可用 {left} 个 token（共 {amount}）',
  'limit.other': '{per}内还剩 {left} {of}（共 {amount}）',
  quota: '服务商：{of}配额还剩 {left}（共 {amount}）',
  'quota.some': '服务商：{of}配额还剩 {left}',
  'quota.back': '服务商：{of}配额已用完，{at} 恢复',
  'of.requests': '请求',
  'of.tokens': ' token ',
  'of.input tokens': '输入 token ',
  'of.output tokens': '输出 token ',
  'fleet.open': '{instances} 个实例中有 {open} 个已摘除',
  'fleet.wary': '{instances} 个实例中有 {open} 个已摘除；此处谨慎使用',
  'scope.ill': '范围 {scope}：{state}{notes}',
  ago: '{span}前',
  span: '时间范围',
  'span.1h': '最近一小时',
  'span.24h': '最近 24 小时',
  'span.30d': '最近 30 天',
  'span.short.1h': '1 小时',
  'span.short.24h': '24 小时',
  'span.short.30d': '30 天',
  'span.sum': '{n} 个请求，{failed} 个失败，成功率 {success}',
  'score.none': '没有请求的端点没有评分',
  rate: '速率',
  share: '允许的份额',
  p50: '中位数',
  p95: '95 分位',
  p99: '99 分位',
  attempts: '尝试',
  failures: '失败',
  'table.of': '{pool} 的端点',
  'success.hint': '最近一小时',
  'column.endpoint': '端点',
  'column.state': '状态',
  'column.tier': '层级',
  'column.traffic': '流量',
  'column.rate': '速率',
  'column.success': '成功率',
  'column.p50': '中位数',
  'column.p95': '95 分位',
  'column.in-flight': '进行中',
  'column.score': '评分',
  'column.note': '原因',
  'column.time': '时间',
  'column.failure': '失败',
  'column.request': '请求',
  'column.outcome': '种类',
  'column.scope': '范围',
  'column.attempts': '尝试',
  'endpoint.gone': '此端点池现在没有这个端点。',
  back: '← 全部端点池',
  'in-pool': '属于端点池 {pool}',
  'over-time': '成功率与延迟',
  scopes: '范围',
  limits: '限额与配额',
  orders: '运维操作与计划',
  'orders.none': '当前没有。',
  'failures.recent': '最近的失败',
  'failures.none': '没有记录到失败。',
  'detail.waiting': '正在读取…',
  'detail.failed': '代理没有给出详情：{problem}',
  actions: '操作',
  'actions.of': '对 {endpoint} 的操作',
  'act.title': '对 {endpoint} 的操作',
  'act.pool': '端点池 {pool}',
  'act.what': '操作',
  'act.drain': '排空',
  'act.drain.hint': '不再接收新请求，进行中的照常完成',
  'act.out': '强制摘除',
  'act.out.hint': '无论状态如何都不接收请求',
  'act.in': '强制服务',
  'act.in.hint': '即使失败也接收请求',
  'act.weight': '权重',
  'act.weight.hint': '在层级内所占的比例',
  'act.priority': '优先级',
  'act.priority.hint': '所在层级；1 最优先',
  'act.undo': '撤销',
  'act.undo.hint': '结束对它的全部运维操作',
  'act.for': '时长',
  'act.why': '理由',
  'act.why.hint': '显示在页面、事件和日志中。',
  'act.why.missing': '请填写理由。',
  'act.failed': '操作未成功：{problem}',
  'act.do': '执行',
  'act.cancel': '取消',
  'for.ever': '直到撤销',
  'for.10m': '10 分钟',
  'for.1h': '1 小时',
  'for.8h': '8 小时',
  'for.24h': '24 小时',
  'events.forgotten': '其事件已不再保留。',
  'all-endpoints': '全部端点',
  kind: '种类',
  'all-kinds': '全部种类',
  'kind.incident': '事故',
  'kind.failover': '故障转移',
  'kind.breaker': '摘除与恢复',
  'kind.pool': '端点池不可用与恢复',
  'kind.cooldown': '冷却',
  'kind.budget': '错误预算',
  'kind.anomaly': '异常',
  'kind.operator': '运维与计划',
  'reason.full': '端点均已满',
  'reason.unsent': '未发送',
  'footer.read-only': '只读。时间为 {zone}。',
};

const languages = { en, 'zh-CN': zh };

// language is the current language tag.
export const language = () => document.documentElement.lang;

// t returns the text of a key with {names} filled in.
export function t(key, values) {
  const words = languages[language()][key] ?? en[key] ?? key;
  return values ? words.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? '') : words;
}

// count fills in a number, with the key's own text for that number if it has one.
export const count = (key, n) => t(`${key}.${n}` in languages[language()] ? `${key}.${n}` : key, { n });

// known returns whether a key has a text.
export const known = (key) => key in en;

// reason returns the text of a reason; an unknown reason stays as it is.
export const reason = (word) => known(`reason.${word}`) ? t(`reason.${word}`) : (word ?? '').replaceAll('_', ' ');

// failures with a number in them
const numbered = [
  [/^(timeout after|no response within|client left after|silent for) (?<span>\S+)$/, (kind) => `error.${kind}`],
  [/^timeout after (?<span>\S+), at the request's deadline$/, () => 'error.at the deadline'],
  [/^(?<status>\d+) with an error in the body$/, () => 'error.with an error'],
  [/^status (?<status>\d+)$/, () => 'error.bad status'],
  [/^body at (?<rate>\S+) bytes\/s$/, () => 'error.body at'],
];

// failure translates the usual errors; others stay as they are.
export function failure(what) {
  if (known(`error.${what}`)) return t(`error.${what}`);
  for (const [pattern, keyOf] of numbered) {
    const found = what.match(pattern);
    if (found) return t(keyOf(found[1]), found.groups);
  }
  return what;
}

// cause describes a failure: a status or an error, and the request that got it.
export function cause({ what: raw, method, path, scope, count: times }) {
  const what = failure(raw);
  const plain = method ? t(/^\d+$/.test(what) ? 'cause.status' : 'cause.from', { what, request: `${method} ${path}` }) : what;
  const text = scope ? t('cause.scope', { cause: plain, scope }) : plain;
  return times > 1 ? `${text} ${t('times', { n: times })}` : text;
}

// remedyOf returns what usually helps against a failure that keeps an endpoint out for a reason, or ''.
export function remedyOf(why, failed) {
  if (!failed) return '';
  const slow = ['slow', 'slower_than_usual', 'unanswered'];
  const kinds = { rate_limited: 'limited', reset: 'closed', truncated: 'closed', timeout: 'slow', stalled: 'slow' };
  let key = kinds[failed.outcome] ?? failed.outcome;
  if (key === 'dial') key = failed.what.startsWith('no such host') ? 'host' : failed.what.startsWith('connection refused') ? 'refused' : 'reach';
  if (!key) key = slow.includes(why) ? 'slow' : why === 'check_failed' ? 'check' : '';
  return known(`remedy.${key}`) ? t('remedy', { what: t(`remedy.${key}`) }) : '';
}

// causeText translates a failure that comes as a text, such as "503 from POST /v1/chat, scope x".
export function causeText(text) {
  if (known(`reason.${text}`)) return reason(text);
  const [, what, method, path, scope] = text.match(/^(.+?) from ([A-Z]+) (\/.*?)(?:, scope (.*))?$/s) ?? [];
  return method ? cause({ what, method, path, scope }) : failure(text);
}

// quota says what a response has stated of a quota.
export function quota({ of, amount, left, back_at: back }, now) {
  const what = known(`of.${of}`) ? t(`of.${of}`) : of;
  if (back && Date.parse(back) > now) return t('quota.back', { of: what, at: clock(new Date(back)) });
  return t(amount ? 'quota' : 'quota.some', { left: number(left), amount: number(amount ?? 0), of: what });
}

export const list = (items) => items.join(t('list'));

// percent formats a ratio with more digits the closer it is to 1.
export function percent(ratio) {
  const value = ratio * 100;
  const lost = 100 - value;
  const digits = value === 0 || lost === 0 ? 0 : lost < 0.1 ? 3 : lost < 1 ? 2 : value < 9.95 ? 1 : lost < 10 ? 1 : 0;
  // Rounding must not turn nearly all into all.
  const text = Math.min(value, lost > 0 ? 100 - 10 ** -digits : 100).toFixed(digits);
  return `${text}%`;
}

// overspent writes how far a budget is overspent, in parts of the budget.
export const overspent = (ratio) => (ratio < 10 ? `${Math.round(ratio * 100)}%` : `${number(ratio)}×`);

// target formats a ratio as it was configured.
export const target = (ratio) => `${+(ratio * 100).toFixed(6)}%`;

// share formats a part of the traffic.
export function share(ratio) {
  const value = ratio * 100;
  if (value > 0 && value < 1) return '<1%';
  return `${Math.round(value)}%`;
}

// number formats a count or a rate.
export function number(value) {
  if (value >= 100000) return `${Math.round(value / 1000)}k`;
  if (value >= 10000) return `${(value / 1000).toFixed(1)}k`;
  if (value >= 9.95 || Number.isInteger(value)) return String(Math.round(value));
  return value.toFixed(value < 1 ? 2 : 1);
}

// seconds formats a latency in seconds.
export function seconds(value) {
  if (value < 0.001) return `${Math.max(1, Math.round(value * 1e6))} µs`;
  if (value < 0.00995) return `${(value * 1000).toFixed(1)} ms`;
  if (value < 0.9995) return `${Math.round(value * 1000)} ms`;
  if (value < 9.95) return `${+value.toFixed(1)} s`;
  return `${Math.round(value)} s`;
}

// countdown formats a remaining time in ms like a clock.
export function countdown(ms) {
  const left = Math.max(0, Math.ceil(ms / 1000));
  const minutes = Math.floor(left / 60) % 60;
  const hours = Math.floor(left / 3600);
  const two = (n) => String(n).padStart(2, '0');
  return hours ? `${hours}:${two(minutes)}:${two(left % 60)}` : `${minutes}:${two(left % 60)}`;
}

// elapsed formats a past time or a span in ms in words.
export function elapsed(ms) {
  const zhText = language() === 'zh-CN';
  const units = zhText ? [' 天', ' 小时', ' 分钟', ' 秒'] : [' d', ' h', ' min', ' s'];
  const total = Math.max(0, Math.round(ms / 1000));
  if (total >= 172800) return Math.round(total / 86400) + units[0];
  if (total >= 7200) return Math.round(total / 3600) + units[1];
  if (total >= 120) return Math.round(total / 60) + units[2];
  return total + units[3];
}

const formats = new Map();
function format(options) {
  const key = language() + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(language() === 'en' ? 'en-GB' : language(), options));
  return formats.get(key);
}

// clock formats a time of day, with the date if it is not today.
export function clock(at, withSeconds = true) {
  const time = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23', ...(withSeconds && { second: '2-digit' }) };
  const text = format(time).format(at);
  if (new Date().toDateString() === at.toDateString()) return text;
  return `${format({ day: 'numeric', month: 'short' }).format(at)} ${text}`;
}

// zone returns the name of the displayed time zone.
export function zone() {
  const part = format({ timeZoneName: 'longOffset' }).formatToParts(new Date()).find((p) => p.type === 'timeZoneName');
  return `${Intl.DateTimeFormat().resolvedOptions().timeZone} (${part.value})`;
}

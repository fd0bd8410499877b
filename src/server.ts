import { randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import Fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyPluginAsync,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify'
import { topologyFinalize } from '../hooks/replica-topology/finalize.js'
import { topologySync } from '../hooks/replica-topology/sync.js'
import { policyCustomize } from '../hooks/storage-policy/customize.js'
import { policyFinalize } from '../hooks/storage-policy/finalize.js'
import { policySync } from '../hooks/storage-policy/sync.js'
import type { CustomizeResponse, HookResponse } from './api/metacontroller.js'
import type { Clock } from './clock.js'
import type { PolicySummary } from './decide/hook.js'
import { type HookAccess, isAllowed, tlsOptions } from './hook-access.js'
import { CALLER_GONE, type HookCalls, hookCalls, readBody, type SingleFlight, singleFlight } from './hook-call.js'
import { ERROR_MESSAGE_LIMIT, HookError } from './hook-error.js'
import {
  forgetNumbers,
  forgetPolicy,
  HOOKS,
  type HookName,
  type HookOutcome,
  type Metrics,
  recordPolicy,
} from './metrics.js'
import type { PolicyHookName, PolicyHooks } from './policy-pool.js'

/** A sync of 10,000 volumes is 50 to 75 MB. */
export const POLICY_BODY_LIMIT = 256 * 1024 * 1024
export const BODY_LIMIT = 4 * 1024 * 1024
/** Go keeps idle connections for 90 s; whoever closes later never loses a request. */
const KEEP_ALIVE_MS = 100_000
/** Time for a request to arrive; above the longest webhook timeout, 60 s. */
const REQUEST_TIMEOUT_MS = 120_000
/** Webhook timeouts of the manifests (60 s and 15 s) less 2 s. */
const POLICY_DEADLINE_MS = 58_000
const TOPOLOGY_DEADLINE_MS = 13_000
/**
 * Syncs and finalizes of policies at once. One worker decides them one after the other, so more would only hold their
 * bodies in memory, 256 MiB each at most.
 */
const POLICY_CALLS_LIMIT = 4
/** Refused callers are logged this often, however often they call. */
const REFUSED_LOG_MS = 60_000
/**
 * A policy is synced at least every 5 minutes. Where two servers run, it may be by the other one: what this one knows of
 * it is shown no longer than this.
 */
const POLICY_SILENCE_MS = 11 * 60_000
/** Lines logged between two turns of the event loop. */
const LOG_BATCH = 50

export interface HookServerDeps {
  readonly log: FastifyBaseLogger
  readonly clock: Clock
  readonly metrics: Metrics
  readonly policy: Pick<PolicyHooks, 'sync' | 'finalize'>
  /** Rejects with HookError for bad input. */
  readonly customize: (body: unknown) => Promise<CustomizeResponse>
  readonly topology: TopologyHandlers
  /** Default: everybody may call, over HTTP. */
  readonly access?: HookAccess
  /** Hook calls answered at once; above it 429. Default: no limit. */
  readonly maxCalls?: number
  readonly policyBodyLimit?: number
  readonly policyDeadlineMs?: number
  readonly topologyDeadlineMs?: number
}

/**
 * The hooks of replica-topology. Each rejects with HookError for bad input and settles soon after `signal` aborts; `log`
 * names the request.
 */
export interface TopologyHandlers {
  sync(body: unknown, signal: AbortSignal, log: FastifyBaseLogger): Promise<HookResponse>
  finalize(body: unknown, signal: AbortSignal, log: FastifyBaseLogger): Promise<HookResponse>
}

/** Options of the plugins in hooks/. */
export interface PolicyRoutes {
  readonly calls: HookCalls
  readonly policy: Pick<PolicyHooks, 'sync' | 'finalize'>
  /** `log` names the request. */
  readonly report: (hook: PolicyHookName, summary: PolicySummary, log: FastifyBaseLogger) => void
}
export interface CustomizeRoutes {
  readonly customize: HookServerDeps['customize']
}
export interface TopologyRoutes {
  readonly calls: HookCalls
  readonly flight: SingleFlight
  readonly topology: TopologyHandlers
}

interface PolicyReport {
  readonly report: PolicyRoutes['report']
  /** Settles when everything reported so far is in the log. */
  written(): Promise<void>
}

/**
 * The server Metacontroller calls. Anything but a complete answer is an error status with a short `{"error": ...}`, on
 * which Metacontroller changes nothing. `close()` refuses new calls with 503 and settles when the running ones have.
 */
export function buildHookServer(deps: HookServerDeps): FastifyInstance {
  const { log, clock, metrics, policy, customize, topology, access = {} } = deps
  const app = Fastify({
    https: access.tls === undefined ? null : tlsOptions(access.tls),
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => randomUUID(),
    bodyLimit: BODY_LIMIT,
    keepAliveTimeout: KEEP_ALIVE_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    return503OnClosing: false,
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } },
    // A path that cannot be read; no hook of ours sees it.
    frameworkErrors: (_error, { raw }, reply) => void (isAllowed(raw, access) ? notFound(reply) : unauthorized(reply)),
  }) as unknown as FastifyInstance
  const { report, written } = policyReport(metrics, clock)
  const policyCalls = hookCalls({ clock, deadlineMs: deps.policyDeadlineMs ?? POLICY_DEADLINE_MS })
  const topologyCalls = hookCalls({ clock, deadlineMs: deps.topologyDeadlineMs ?? TOPOLOGY_DEADLINE_MS })

  app.removeContentTypeParser('text/plain')
  observeCalls(app, metrics, clock)
  refuseStrangers(app, access, log, clock)
  refuseWhileClosing(app)
  refuseTooMany(app, deps.maxCalls ?? Number.POSITIVE_INFINITY)
  app.addHook('onClose', async () => {
    await Promise.all([policyCalls.idle(), topologyCalls.idle()])
    await written()
  })
  app.addHook('preHandler', async ({ body, is404 }) => {
    if (is404) return
    if (body === undefined || body === null || (body instanceof ArrayBuffer && body.byteLength === 0)) {
      throw new HookError(400, 'the request has no body')
    }
  })
  app.setNotFoundHandler((_request, reply) => notFound(reply))
  app.setErrorHandler<FastifyError | HookError>((error, request, reply) => {
    const { statusCode, message, retryAfterSeconds } = error instanceof HookError ? error : publicError(error)
    const level = statusCode === 429 || statusCode === CALLER_GONE ? 'debug' : statusCode >= 500 ? 'error' : 'warn'
    request.log[level](
      { hook: hookOf(request.routeOptions.url), statusCode, err: statusCode >= 500 ? error : message },
      'hook call failed',
    )
    if (retryAfterSeconds !== undefined) reply.header('Retry-After', Math.ceil(retryAfterSeconds))
    return reply.code(statusCode).send({ error: message.slice(0, ERROR_MESSAGE_LIMIT - 20) })
  })

  const policyRoutes: FastifyPluginAsync = async (scope) => {
    // Bodies of any size the worker can parse, without a look at them here.
    const limit = deps.policyBodyLimit ?? POLICY_BODY_LIMIT
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('application/json', async (request: FastifyRequest, payload: IncomingMessage) => {
      const length = request.headers['content-length']
      return readBody(payload, length === undefined ? undefined : Number(length), limit)
    })
    await scope.register(policySync, { calls: policyCalls, policy, report })
    await scope.register(policyFinalize, { calls: policyCalls, policy, report })
  }
  app.register(policyRoutes)
  app.register(policyCustomize, { customize })
  const topologyRoutes = { calls: topologyCalls, flight: singleFlight(), topology }
  app.register(topologySync, topologyRoutes)
  app.register(topologyFinalize, topologyRoutes)
  return app
}

/** What a caller is told about an error that is not a HookError: nothing, when it is ours. */
function publicError({ code, statusCode }: FastifyError): HookError {
  switch (code) {
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
      return new HookError(400, 'the request has no body')
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new HookError(413, 'the request is too large')
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new HookError(415, 'the body must be application/json')
  }
  // What is left below 500 comes from Fastify's parser.
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new HookError(400, 'the body is not JSON')
  }
  return new HookError(500, 'internal error')
}

/** Whether the body of a call holds every volume of a policy. */
const carriesVolumes = (hook: HookName) => hook === 'storage-policy/sync' || hook === 'storage-policy/finalize'

function hookOf(url: string | undefined): HookName | undefined {
  return HOOKS.find((hook) => url === `/hooks/${hook}`)
}

/** Counts and times every call of a hook, from its head to the end of its answer or of its connection. */
function observeCalls(app: FastifyInstance, metrics: Metrics, clock: Clock): void {
  app.addHook('onRequest', async (request, reply) => {
    const hook = hookOf(request.routeOptions.url)
    if (hook === undefined) return
    const startedAt = clock.monotonic()
    metrics.hooksInFlight.inc({ hook })
    let answered = false
    reply.raw.once('finish', () => {
      answered = true
    })
    reply.raw.once('close', () => {
      const { statusCode } = reply.raw
      const outcome = answered ? outcomeOf(statusCode) : 'aborted'
      const seconds = (clock.monotonic() - startedAt) / 1000
      metrics.hooksInFlight.dec({ hook })
      metrics.hookSeconds.observe({ hook }, seconds)
      metrics.reconcileTotal.inc({ hook, outcome })
      request.log.debug({ hook, outcome, statusCode, seconds }, 'hook call ended')
    })
  })
}

function outcomeOf(statusCode: number): HookOutcome {
  if (statusCode === 401) return 'unauthorized'
  if (statusCode === 429) return 'busy'
  if (statusCode === CALLER_GONE) return 'aborted'
  if (statusCode >= 500) return 'error'
  return statusCode >= 400 ? 'bad_request' : 'success'
}

const notFound = (reply: FastifyReply) => reply.code(404).send({ error: 'not found' })

/** Ends the connection as well: what else comes over it is not read. */
const unauthorized = (reply: FastifyReply) =>
  reply.code(401).headers({ 'WWW-Authenticate': 'Bearer', Connection: 'close' }).send({ error: 'unauthorized' })

/** 401 for every path, known or not, before the body is read. */
function refuseStrangers(app: FastifyInstance, access: HookAccess, log: FastifyBaseLogger, clock: Clock): void {
  let calls = 0
  let loggedAt = Number.NEGATIVE_INFINITY
  app.addHook('onRequest', async ({ raw, ip }, reply) => {
    if (isAllowed(raw, access)) return
    calls++
    if (clock.monotonic() - loggedAt >= REFUSED_LOG_MS) {
      loggedAt = clock.monotonic()
      log.warn({ calls, ip }, 'calls without the right credential were refused')
      calls = 0
    }
    return unauthorized(reply)
  })
}

/** 429 above the limits, before the body is read. */
function refuseTooMany(app: FastifyInstance, limit: number): void {
  const all = { running: 0, limit }
  const policies = { running: 0, limit: POLICY_CALLS_LIMIT }
  app.addHook('onRequest', async ({ routeOptions }, reply) => {
    const hook = hookOf(routeOptions.url)
    if (hook === undefined) return
    const counts = carriesVolumes(hook) ? [all, policies] : [all]
    if (counts.some((count) => count.running >= count.limit)) {
      throw new HookError(429, 'too many calls at once', { retryAfterSeconds: 1 })
    }
    for (const count of counts) count.running++
    reply.raw.once('close', () => {
      for (const count of counts) count.running--
    })
  })
}

function refuseWhileClosing(app: FastifyInstance): void {
  let closing = false
  app.addHook('preClose', async () => {
    closing = true
  })
  app.addHook('onRequest', async () => {
    if (closing) throw new HookError(503, 'the operator is shutting down', { retryAfterSeconds: 1 })
  })
  app.addHook('onSend', async (_request, reply) => {
    // A connection kept open would be waited for.
    if (closing) reply.header('Connection', 'close')
  })
}

/** Shows what a policy's hook decided: as metrics, and each change as one line of the log. */
function policyReport(metrics: Metrics, clock: Clock): PolicyReport {
  const expiries = new Map<string, () => void>()
  let written = Promise.resolve()
  const next = (work: () => Promise<void>) => {
    written = written.then(work)
  }
  return {
    report: (hook, summary, log) => {
      const { policy, changes } = summary
      expiries.get(policy)?.()
      expiries.delete(policy)
      if (hook === 'finalize') {
        next(() => forgetPolicy(metrics, policy))
      } else {
        recordPolicy(metrics, summary)
        expiries.set(
          policy,
          clock.after(POLICY_SILENCE_MS, () => next(() => forgetNumbers(metrics, policy))),
        )
      }
      next(() => logChanges(log, policy, changes))
    },
    written: () => written,
  }
}

async function logChanges(log: FastifyBaseLogger, policy: string, changes: PolicySummary['changes']): Promise<void> {
  for (let from = 0; from < changes.length; from += LOG_BATCH) {
    for (const change of changes.slice(from, from + LOG_BATCH)) log.info({ policy, ...change }, 'decision changed')
    // The first decision of a policy changes every volume: 10,000 lines must not keep other hooks waiting.
    await setImmediate()
  }
}

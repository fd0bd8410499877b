import { type ClientCredentials, type CredentialSource, noCredentials } from './clients/credentials.js'
import type { PrometheusClient, QueryReport } from './clients/prometheus.js'
import type { Clock } from './clock.js'
import type { Header } from './config.js'
import type { PolicySummary, runPolicyHook } from './decide/hook.js'
import type { PolicyOptions } from './decide/policy.js'
import { HookError } from './hook-error.js'
import { withoutManagedFields } from './managed-fields.js'
import { toWire } from './wire.js'

export type PolicyHookName = 'sync' | 'finalize'

export interface PolicyAnswer {
  /** JSON, UTF-8. */
  readonly body: Uint8Array
  readonly summary: PolicySummary
}

/**
 * The sync and finalize hooks of storage-policy, from the bytes of the request to the bytes of the answer. The buffer
 * belongs to the callee from then on. Both reject with HookError for bad input.
 */
export interface PolicyHooks {
  sync(body: ArrayBuffer, signal: AbortSignal): Promise<PolicyAnswer>
  finalize(body: ArrayBuffer, signal: AbortSignal): Promise<PolicyAnswer>
  close(): Promise<void>
}

export interface InlineDeps {
  run: typeof runPolicyHook
  prometheus: PrometheusClient
  clock: Clock
  options: PolicyOptions
}

/** Runs on the calling thread: for tests, the embedded cluster, and inside the worker. */
export function inlinePolicyHooks({ run, prometheus, clock, options }: InlineDeps): PolicyHooks {
  const answer = async (hook: PolicyHookName, body: ArrayBuffer): Promise<PolicyAnswer> => {
    const { response, summary } = await run(hook, parseJson(body), { prometheus, now: clock.now(), options })
    return { body: new TextEncoder().encode(toWire(response)), summary }
  }
  return {
    sync: (body) => answer('sync', body),
    finalize: (body) => answer('finalize', body),
    close: async () => {},
  }
}

function parseJson(body: ArrayBuffer): unknown {
  try {
    return JSON.parse(withoutManagedFields(Buffer.from(body)).toString('utf8'))
  } catch (cause) {
    throw new HookError(400, 'the body is not JSON', { cause })
  }
}

/** What the worker thread is started with. */
export interface PolicyWorkerData {
  readonly prometheusUrl: string
  readonly prometheusHeader?: Header
  readonly options: PolicyOptions
}

/** What each call brings along. */
export interface PolicyWorkerTask {
  readonly body: ArrayBuffer
  /** For Prometheus, as they are now. */
  readonly credentials: ClientCredentials
}

/** How a call in the worker ended; a HookError does not survive the way between threads as such. */
export type PolicyWorkerResult = { readonly queries: readonly QueryReport[] } & (
  | ({ readonly kind: 'answer' } & PolicyAnswer)
  | { readonly kind: 'refused'; readonly statusCode: number; readonly message: string }
)

/**
 * Old generation of the worker's heap. A sync of 10,000 volumes is a body of 75 MB, held as one string beside the
 * parsed objects (about 4 times the body) and the world and answer made from them.
 */
const MAX_HEAP_MB = 2_048
/**
 * Young generation of the worker's heap. With Node's 48 MB most of what is parsed is copied twice before it is known to
 * stay: a tenth of a large sync.
 */
const YOUNG_HEAP_MB = 128

export interface WorkerPool extends PolicyHooks {
  /** Starts the thread, so that the first call need not wait for it. */
  warmUp(): Promise<void>
}

/**
 * Runs in one worker thread, so that parsing and deciding for 10,000 volumes never keeps the other hooks waiting. Calls
 * queue. An aborted call ends its thread, as does a crash, which fails that call only; a new thread takes its place.
 */
export function workerPolicyHooks(deps: {
  workerData: PolicyWorkerData
  /** For Prometheus. Default: none. */
  credentials?: CredentialSource
  onQuery: (report: QueryReport) => void
  /** A thread died while no call was running. */
  onError: (error: unknown) => void
  file?: URL
  maxHeapMb?: number
}): WorkerPool {
  const {
    workerData,
    credentials = noCredentials,
    onQuery,
    onError,
    file = new URL('./policy-worker.js', import.meta.url),
    maxHeapMb = MAX_HEAP_MB,
  } = deps
  const start = async () => {
    const { Piscina } = await import('piscina')
    const pool = new Piscina<PolicyWorkerTask, PolicyWorkerResult>({
      filename: file.href,
      minThreads: 1,
      maxThreads: 1,
      // Otherwise an idle thread sleeps with its sockets unattended.
      atomics: 'disabled',
      workerData,
      resourceLimits: { maxOldGenerationSizeMb: maxHeapMb, maxYoungGenerationSizeMb: YOUNG_HEAP_MB },
    })
    pool.on('error', onError)
    return pool
  }
  let started: ReturnType<typeof start> | undefined
  const pool = () => {
    started ??= start()
    return started
  }

  const call = async (name: PolicyHookName, body: ArrayBuffer, signal: AbortSignal): Promise<PolicyAnswer> => {
    const task = { body, credentials: credentials() }
    const result = await (await pool()).run(task, { name, transferList: [body], signal })
    for (const query of result.queries) onQuery(query)
    if (result.kind === 'refused') throw new HookError(result.statusCode, result.message)
    return result
  }
  return {
    sync: (body, signal) => call('sync', body, signal),
    finalize: (body, signal) => call('finalize', body, signal),
    warmUp: async () => void (await pool()),
    close: async () => void (await (await started)?.destroy()),
  }
}

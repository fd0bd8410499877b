import { workerData } from 'node:worker_threads'
import { move, transferableSymbol, valueSymbol } from 'piscina'
import { prometheusClient, type QueryReport } from './clients/prometheus.js'
import { systemClock } from './clock.js'
import { runPolicyHook } from './decide/hook.js'
import { HookError } from './hook-error.js'
import {
  inlinePolicyHooks,
  type PolicyHookName,
  type PolicyWorkerData,
  type PolicyWorkerResult,
} from './policy-pool.js'

/** The other side of policy-pool.ts: piscina calls the exported functions by name, in a thread of their own. */
const { options, prometheusUrl } = workerData as PolicyWorkerData
/** Of the call that is running: there is one at a time. */
let queries: QueryReport[] = []
const hooks = inlinePolicyHooks({
  run: runPolicyHook,
  prometheus: prometheusClient({ url: prometheusUrl, onQuery: (report) => void queries.push(report) }),
  clock: systemClock,
  options,
})
/** Calls that nobody waits for any longer end with the thread. */
const never = new AbortController().signal

export const sync = (body: ArrayBuffer) => answer('sync', body)
export const finalize = (body: ArrayBuffer) => answer('finalize', body)

async function answer(hook: PolicyHookName, request: ArrayBuffer): Promise<unknown> {
  queries = []
  try {
    const { body, summary } = await hooks[hook](request, never)
    const result: PolicyWorkerResult = { kind: 'answer', body, summary, queries }
    return move({ [transferableSymbol]: [body.buffer], [valueSymbol]: result } as unknown as ArrayBuffer)
  } catch (error) {
    if (!(error instanceof HookError)) throw error
    const { statusCode, message } = error
    return { kind: 'refused', statusCode, message, queries } satisfies PolicyWorkerResult
  }
}

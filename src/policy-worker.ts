import { workerData } from 'node:worker_threads'
import { move, transferableSymbol, valueSymbol } from 'piscina'
import { type ClientCredentials, noCredentials } from './clients/credentials.js'
import { prometheusClient, type QueryReport } from './clients/prometheus.js'
import { systemClock } from './clock.js'
import { runPolicyHook } from './decide/hook.js'
import { HookError } from './hook-error.js'
import {
  inlinePolicyHooks,
  type PolicyHookName,
  type PolicyWorkerData,
  type PolicyWorkerResult,
  type PolicyWorkerTask,
} from './policy-pool.js'

/** The other side of policy-pool.ts: piscina calls the exported functions by name, in a thread of their own. */
const { options, prometheusUrl, prometheusHeader } = workerData as PolicyWorkerData
/** Of the call that is running: there is one at a time. */
let queries: QueryReport[] = []
let credentials: ClientCredentials = noCredentials()
const hooks = inlinePolicyHooks({
  run: runPolicyHook,
  prometheus: prometheusClient({
    url: prometheusUrl,
    credentials: () => credentials,
    ...(prometheusHeader === undefined ? {} : { header: prometheusHeader }),
    onQuery: (report) => void queries.push(report),
  }),
  clock: systemClock,
  options,
})
/** Calls that nobody waits for any longer end with the thread. */
const never = new AbortController().signal

export const sync = (task: PolicyWorkerTask) => answer('sync', task)
export const finalize = (task: PolicyWorkerTask) => answer('finalize', task)

async function answer(hook: PolicyHookName, task: PolicyWorkerTask): Promise<unknown> {
  queries = []
  credentials = task.credentials
  try {
    const { body, summary } = await hooks[hook](task.body, never)
    const result: PolicyWorkerResult = { kind: 'answer', body, summary, queries }
    return move({ [transferableSymbol]: [body.buffer], [valueSymbol]: result } as unknown as ArrayBuffer)
  } catch (error) {
    if (!(error instanceof HookError)) throw error
    const { statusCode, message } = error
    return { kind: 'refused', statusCode, message, queries } satisfies PolicyWorkerResult
  }
}

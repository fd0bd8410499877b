import type { Readable } from 'node:stream'
import type { FastifyReply } from 'fastify'
import type { Clock } from './clock.js'
import { HookError } from './hook-error.js'

/** Status of a call whose caller went away; nobody reads it but our logs and metrics. */
export const CALLER_GONE = 499

/** Runs the work of hook calls, each with a signal that says when nobody waits for it any longer. */
export interface HookCalls {
  /** Rejects with HookError 504 at the deadline and 499 when the caller goes away, at once, whatever `work` does. */
  run<T>(reply: FastifyReply, work: (signal: AbortSignal) => Promise<T>): Promise<T>
  /** Settles when all work has, including what was given up on. */
  idle(): Promise<void>
}

/** `deadlineMs`: the webhook's timeout less 2 s, so that Metacontroller never calls again while we still work. */
export function hookCalls({ clock, deadlineMs }: { clock: Clock; deadlineMs: number }): HookCalls {
  const running = new Set<Promise<unknown>>()
  return {
    async run(reply, work) {
      const controller = new AbortController()
      const given = new Promise<never>((_, reject) => {
        controller.signal.addEventListener('abort', () => reject(controller.signal.reason))
      })
      const cancel = clock.after(deadlineMs, () => controller.abort(new HookError(504, 'the call took too long')))
      const gone = () => controller.abort(new HookError(CALLER_GONE, 'the caller has gone'))
      reply.raw.once('close', gone)
      const result = work(controller.signal)
      const settled = result
        .catch(() => {})
        .finally(() => {
          running.delete(settled)
        })
      running.add(settled)
      try {
        return await Promise.race([result, given])
      } finally {
        cancel()
        reply.raw.removeListener('close', gone)
      }
    },
    async idle() {
      while (running.size > 0) await Promise.all(running)
    },
  }
}

/** At most one call for a key at a time. */
export interface SingleFlight {
  /** Rejects with HookError 429 while `work` for the same key has not settled, even if its caller has given up. */
  run<T>(key: string, work: () => Promise<T>): Promise<T>
}

export function singleFlight(): SingleFlight {
  const flying = new Set<string>()
  return {
    async run(key, work) {
      if (flying.has(key)) {
        throw new HookError(429, 'a call for this parent is still running', { retryAfterSeconds: 1 })
      }
      flying.add(key)
      try {
        return await work()
      } finally {
        flying.delete(key)
      }
    },
  }
}

/** `parent.metadata.uid` of a sync or finalize request. Throws HookError 400 without one. */
export function parentUid(body: unknown): string {
  const uid = (body as { parent?: { metadata?: { uid?: unknown } | null } | null } | null)?.parent?.metadata?.uid
  if (typeof uid !== 'string' || uid === '') throw new HookError(400, 'the request has no parent.metadata.uid')
  return uid
}

/** First size of the buffer of a body that does not say how long it is. */
const INITIAL_BYTES = 1 << 20

/**
 * A whole body in one buffer that can be handed to another thread without a copy. `contentLength` undefined: unknown.
 * Rejects with HookError 413 above `limit` bytes and 400 when the body is cut short.
 */
export async function readBody(
  stream: Readable,
  contentLength: number | undefined,
  limit: number,
): Promise<ArrayBuffer> {
  const tooLarge = () => new HookError(413, 'the request is too large')
  if (contentLength !== undefined && contentLength > limit) throw tooLarge()
  let bytes = new Uint8Array(contentLength ?? Math.min(INITIAL_BYTES, limit))
  let length = 0
  for await (const chunk of stream as AsyncIterable<Uint8Array>) {
    const needed = length + chunk.length
    if (needed > limit) throw tooLarge()
    if (needed > bytes.length) {
      const larger = new Uint8Array(Math.min(limit, Math.max(needed, bytes.length * 2)))
      larger.set(bytes.subarray(0, length))
      bytes = larger
    }
    bytes.set(chunk, length)
    length = needed
  }
  if (contentLength !== undefined && length < contentLength) throw new HookError(400, 'the request is incomplete')
  return length === bytes.length ? bytes.buffer : bytes.buffer.slice(0, length)
}

import type { CustomizeResponse, HookResponse } from './api/metacontroller.js'

/** Longest `resyncAfterSeconds` that is sent: a day. */
const MAX_RESYNC_SECONDS = 86_400

/** A hook computed an answer that must not leave the process; the call fails with 500 and nothing is changed. */
export class WireError extends Error {
  override readonly name = 'WireError'
}

/**
 * The body of a sync or finalize answer. Metacontroller reads a missing `children` as "delete them all", a null in it
 * crashes Metacontroller, and a null deeper down makes it write the object again on every sync: none of them is ever
 * sent. Throws WireError, which names the offending place.
 */
export function toWire(response: HookResponse): string {
  assertObject(response, 'the answer')
  const { status, children, resyncAfterSeconds, finalized, ...unknown } = response
  for (const key in unknown) throw new WireError(`the answer has an unknown field ${key}`)
  assertObject(status, 'status')
  assertItems(children, 'children')
  if (!(Number.isFinite(resyncAfterSeconds) && resyncAfterSeconds > 0 && resyncAfterSeconds <= MAX_RESYNC_SECONDS)) {
    throw new WireError(`resyncAfterSeconds is ${resyncAfterSeconds}`)
  }
  if (finalized !== undefined && typeof finalized !== 'boolean') throw new WireError(`finalized is ${finalized}`)
  assertPlain(status, 'status')
  assertPlain(children, 'children')
  return JSON.stringify({ status, children, resyncAfterSeconds, finalized })
}

/** The body of a customize answer; a null in it crashes Metacontroller as well. Throws WireError. */
export function customizeToWire(response: CustomizeResponse): string {
  assertObject(response, 'the answer')
  const { relatedResources } = response
  assertItems(relatedResources, 'relatedResources')
  assertPlain(relatedResources, 'relatedResources')
  return JSON.stringify({ relatedResources })
}

function assertObject(value: unknown, name: string): void {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new WireError(`${name} is no object`)
}

function assertItems(value: unknown, name: string): void {
  if (!Array.isArray(value)) throw new WireError(`${name} is no list`)
  for (let i = 0; i < value.length; i++) assertObject(value[i], `${name}/${i}`)
}

function assertPlain(value: unknown, name: string): void {
  const path = badPath(value)
  if (path !== undefined) throw new WireError(`${[name, ...path].join('/')} is not plain JSON`)
}

/** Where the first value is that JSON would drop or turn into null (or that is null); undefined when there is none. */
function badPath(value: unknown): string[] | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return undefined
    case 'number':
      return Number.isFinite(value) ? undefined : []
    case 'object': {
      if (value === null) return []
      if (Array.isArray(value)) {
        for (let i = 0; i < value.length; i++) {
          const path = badPath(value[i])
          if (path !== undefined) return [String(i), ...path]
        }
        return undefined
      }
      for (const key in value) {
        const path = badPath((value as Record<string, unknown>)[key])
        if (path !== undefined) return [key, ...path]
      }
      return undefined
    }
    default:
      return []
  }
}

import type { Draft } from './json.js'

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const QUALIFIED_NAME = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/
/** Limit on all annotations of one object together, bytes. */
const ANNOTATIONS_LIMIT = 256 * 1024

/** Why the API server refuses this metadata; empty when it does not. */
export function metadataErrors(metadata: Draft): string[] {
  const errors: string[] = []
  const name = metadata['name'] as string
  if (name.length > 253 || !SUBDOMAIN.test(name)) {
    errors.push(`metadata.name: Invalid value: ${JSON.stringify(name)}: a lowercase RFC 1123 subdomain`)
  }
  for (const [key, value] of Object.entries((metadata['labels'] ?? {}) as Draft)) {
    qualifiedName(key, 'metadata.labels', errors)
    if (typeof value !== 'string' || value.length > 63 || !LABEL_VALUE.test(value)) {
      errors.push(`metadata.labels: Invalid value: ${JSON.stringify(value)}: not a valid label value`)
    }
  }
  let bytes = 0
  for (const [key, value] of Object.entries((metadata['annotations'] ?? {}) as Draft)) {
    qualifiedName(key.toLowerCase(), 'metadata.annotations', errors)
    if (typeof value !== 'string') errors.push(`metadata.annotations[${key}]: Invalid value: not a string`)
    else bytes += Buffer.byteLength(key) + Buffer.byteLength(value)
  }
  if (bytes > ANNOTATIONS_LIMIT) {
    errors.push(`metadata.annotations: Too long: may not be more than ${ANNOTATIONS_LIMIT} bytes`)
  }
  for (const finalizer of (metadata['finalizers'] ?? []) as string[]) {
    qualifiedName(finalizer, 'metadata.finalizers', errors)
  }
  const owners = (metadata['ownerReferences'] ?? []) as Draft[]
  if (owners.filter((owner) => owner['controller'] === true).length > 1) {
    errors.push('metadata.ownerReferences: Invalid value: only one reference can have Controller set to true')
  }
  return errors
}

function qualifiedName(text: string, path: string, errors: string[]): void {
  const parts = text.split('/')
  const name = parts.at(-1) as string
  const prefix = parts.length > 1 ? parts[0] : undefined
  const wellFormed =
    parts.length <= 2 &&
    name.length <= 63 &&
    QUALIFIED_NAME.test(name) &&
    (prefix === undefined || (prefix.length <= 253 && SUBDOMAIN.test(prefix)))
  if (!wellFormed) {
    errors.push(`${path}: Invalid value: ${JSON.stringify(text)}: name part must consist of 1 to 63 allowed characters`)
  }
}

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>> | null
  readonly matchExpressions?:
    | readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] | null }[]
    | null
}

export type LabelMatch = (labels: Readonly<Record<string, string>> | undefined) => boolean

/** Compiles a label selector. Empty or null selects everything; an operator Kubernetes does not know throws. */
export function compileSelector(selector: LabelSelector | null | undefined): LabelMatch {
  const tests: LabelMatch[] = []
  for (const [key, value] of Object.entries(selector?.matchLabels ?? {})) {
    tests.push((labels) => labels?.[key] === value)
  }
  for (const { key, operator, values } of selector?.matchExpressions ?? []) {
    const set = new Set(values ?? [])
    if ((operator === 'In' || operator === 'NotIn') !== set.size > 0) {
      throw new Error(`label selector: operator ${operator} on ${key} with ${set.size} values`)
    }
    switch (operator) {
      case 'In':
        tests.push((labels) => labels?.[key] !== undefined && set.has(labels[key]))
        break
      case 'NotIn':
        tests.push((labels) => labels?.[key] === undefined || !set.has(labels[key]))
        break
      case 'Exists':
        tests.push((labels) => labels?.[key] !== undefined)
        break
      case 'DoesNotExist':
        tests.push((labels) => labels?.[key] === undefined)
        break
      default:
        throw new Error(`label selector: "${operator}" is not a valid label selector operator`)
    }
  }
  return (labels) => tests.every((test) => test(labels))
}

export function isEmptySelector(selector: LabelSelector | null | undefined): boolean {
  return Object.keys(selector?.matchLabels ?? {}).length === 0 && (selector?.matchExpressions ?? []).length === 0
}

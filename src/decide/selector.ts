/** Kubernetes label selectors. */

export interface LabelRequirement {
  readonly key: string
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist'
  readonly values?: readonly string[]
}

export interface LabelSelector {
  readonly matchLabels?: Readonly<Record<string, string>>
  readonly matchExpressions?: readonly LabelRequirement[]
}

type Labels = ReadonlyMap<string, ReadonlySet<string>>

/** Whether the selector names anything positive: a selector of negations alone would take every pool. */
export function selectsSomething(selector: LabelSelector): boolean {
  return (
    Object.keys(selector.matchLabels ?? {}).length > 0 ||
    (selector.matchExpressions ?? []).some(({ operator }) => operator === 'In' || operator === 'Exists')
  )
}

/** Whether every requirement holds. A key may carry several values, when two sources of labels disagree. */
export function matches(selector: LabelSelector, labels: Labels): boolean {
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (!labels.get(key)?.has(value)) return false
  }
  return (selector.matchExpressions ?? []).every((requirement) => satisfies(requirement, labels))
}

function satisfies({ key, operator, values = [] }: LabelRequirement, labels: Labels): boolean {
  const found = labels.get(key)
  switch (operator) {
    case 'In':
      return values.some((value) => found?.has(value))
    case 'NotIn':
      return !values.some((value) => found?.has(value))
    case 'Exists':
      return found !== undefined
    case 'DoesNotExist':
      return found === undefined
  }
}

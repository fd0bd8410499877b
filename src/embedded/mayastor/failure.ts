const statusOfKind = {
  Deserialize: 400,
  InvalidArgument: 400,
  NotFound: 404,
  Timeout: 408,
  Conflict: 409,
  Deleting: 409,
  InUse: 409,
  FailedPrecondition: 412,
  NotPublished: 412,
  AlreadyPublished: 412,
  AlreadyExists: 422,
  Internal: 500,
  Aborted: 503,
  Unavailable: 503,
  DeadlineExceeded: 504,
  ResourceExhausted: 507,
  FailedPersist: 507,
} as const

export type FailureKind = keyof typeof statusOfKind

/** Why Mayastor refused or could not finish: what its REST API answers as RestJsonError. */
export interface Failure {
  readonly kind: FailureKind
  readonly details: string
}

/** `error` is the name the core gives it: several refusals share a kind, only this text tells them apart. */
export function failure(kind: FailureKind, error: string, sentence: string): Failure {
  return { kind, details: `SvcError::${error}: ${sentence}` }
}

export function statusOf(kind: string): number {
  return (statusOfKind as Record<string, number>)[kind] ?? 500
}

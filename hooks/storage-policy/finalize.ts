import type { FastifyPluginAsync } from 'fastify'
import type { PolicyRoutes } from '../../src/server.js'

/** Lets the children of a deleted policy go, and the policy once none of them is left. */
export const policyFinalize: FastifyPluginAsync<PolicyRoutes> = async (app, { calls, policy, report }) => {
  app.post('/hooks/storage-policy/finalize', async (request, reply) => {
    const bytes = request.body as ArrayBuffer
    const { body, summary } = await calls.run(reply, (signal) => policy.finalize(bytes, signal))
    report('finalize', summary, request.log)
    return reply.type('application/json').send(body)
  })
}

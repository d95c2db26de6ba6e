using KvNode.Raft;
using KvNode.Server.Commands;
using KvNode.Server.Resp;

namespace KvNode.Server.Replication;

/// <summary>Answers commands that were not executed, or whose fate is open; where another node leads, in the words chosen
/// by <c>--follower</c>.</summary>
/// <param name="moved">As a Redis Cluster: <c>MOVED slot host:port</c> in the place of <c>TRY host:port</c>.</param>
internal sealed class FailureReplies(CommandTable table, bool moved)
{
    /// <summary>
    /// Answers a batch that was not committed: each write with the reason. Reads get it too, for whatever stands in the
    /// way of the write stands in the way of knowing what is newest; but that a read had no effect is certain.
    /// </summary>
    public void Answer(CommandBatch batch, ProposalOutcome outcome)
    {
        var ranges = new ArgRange[16];
        var writes = batch.Commands;
        var reads = batch.Reads;
        var operation = 0;
        for (var r = 0; r < batch.Runs.Length; r++)
        {
            batch.Replies.Protocol = batch.Runs[r].Sink.Protocol;
            for (var i = 0; i < batch.Runs[r].Operations; i++)
            {
                if (batch.Replies.Length > Limits.HeldReplyBytes)
                {
                    _ = batch.HandOver(r);
                }

                var isRead = batch.IsRead(operation++);
                if (IsMoved(outcome))
                {
                    AnswerMoved(batch.Replies, outcome, ref isRead ? ref reads : ref writes, ref ranges);
                }
                else
                {
                    RespError.NotExecuted(batch.Replies, isRead ? ForRead(outcome) : outcome);
                }
            }

            batch.EndRun(r);
        }
    }

    /// <summary>Answers one command.</summary>
    public void Answer(RespWriter reply, ProposalOutcome outcome, CommandSpec spec, CommandArgs args)
    {
        if (IsMoved(outcome))
        {
            RespError.Moved(reply, ClusterSlots.Of(spec, args), outcome.LeaderHint!);
        }
        else
        {
            RespError.NotExecuted(reply, outcome);
        }
    }

    private static ProposalOutcome ForRead(ProposalOutcome outcome) =>
        outcome.Status == ProposalStatus.Unknown ? new ProposalOutcome(ProposalStatus.Superseded) : outcome;

    private bool IsMoved(ProposalOutcome outcome) =>
        moved && outcome is { Status: ProposalStatus.NotLeader, LeaderHint: not null };

    private void AnswerMoved(
        RespWriter reply, ProposalOutcome outcome, ref ReadOnlySpan<byte> commands, ref ArgRange[] ranges)
    {
        var parsed = CommandReader.TryParse(commands, ref ranges, out var args, out var consumed);
        Invariant.Check(parsed, "a command that was accepted parses again");
        commands = commands[consumed..];
        var found = table.TryFind(args[0], out var spec);
        Invariant.Check(found, "a command that was accepted is still known");
        RespError.Moved(reply, ClusterSlots.Of(spec!, args), outcome.LeaderHint!);
    }
}

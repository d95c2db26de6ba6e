using State = KvNode.Raft.Engine.OutstandingBatches.State;

namespace KvNode.Raft.Engine;

// Batches that cannot be answered in time: there is no leader, or this node's disk takes nothing, so that what the others
// agree on cannot be applied here.
internal sealed partial class RaftDriver
{
    // When it was first seen that the disk takes nothing; zero while it does.
    private long _fullSince;

    /// <summary>At each tick: an answer, and an honest one.</summary>
    private void FailExpired()
    {
        _fullSince = _persist.Refusal is null ? 0 : _fullSince == 0 ? _now : _fullSince;
        if (_parts.Outstanding.Count == 0)
        {
            return;
        }

        var before = _now - LeaderWaitNs;
        if (_core.Leader == 0 && _noLeaderSince <= before)
        {
            FailLeaderless(before);
        }

        if (!IsLeader && _persist.Refusal is { } refusal)
        {
            FailWhileFull(new ProposalOutcome(ProposalStatus.Dropped, Reason: refusal), before);
        }
    }

    private void FailLeaderless(long before)
    {
        _parts.Outstanding.Visit(before, static (before, ref item) =>
        {
            if (item.State != State.Failed && item.State != State.Confirmed && item.Since <= before)
            {
                item.GiveUp();
#if PLANTED_BUGS
                item.Outcome = Planted.Is(Bug.DeniesTheUnknown) ? new ProposalOutcome(ProposalStatus.NoLeader) : item.Outcome;
#endif
            }

            return true;
        });
        AnswerSoon();
    }

    /// <summary>A follower's entries stay behind its full disk, and so do the results of what it brought to the leader. What
    /// no leader has been given is refused; the rest waits as long as for a leader.</summary>
    private void FailWhileFull(ProposalOutcome refusal, long before)
    {
        var expired = _fullSince <= before;
        var context = (Refusal: refusal, Before: expired ? before : long.MinValue, Applied: _apply.AppliedIndex);
        _parts.Outstanding.Visit(context, static (at, ref item) =>
        {
            // A read that what is applied suffices for is served as soon as what stands before it is answered.
            if (item.State == State.Failed || (item.State == State.Confirmed && item.Number <= at.Applied))
            {
                return true;
            }

            if (!item.IsRead && !item.MayExist)
            {
                item.Fail(at.Refusal);
            }
            else if (item.Since <= at.Before)
            {
                item.Fail(item.MayExist ? new ProposalOutcome(ProposalStatus.Unknown) : at.Refusal);
            }

            return true;
        });
        AnswerSoon();
    }
}

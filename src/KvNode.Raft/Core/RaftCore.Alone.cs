namespace KvNode.Raft.Core;

/// <summary>A leader that is its whole cluster.</summary>
internal sealed partial class RaftCore
{
    /// <summary>
    /// Takes back this leader's newest entries, which its disk refused and nobody else has seen. Only while this node is
    /// the only member, and only for the persist handed out last.
    /// </summary>
    public void Withdraw(ulong fromIndex, ulong persistSequence)
    {
        Invariant.Check(Role == CoreRole.Leader && _peers.Count == 0 && fromIndex > Commit);
        Invariant.Check(persistSequence == _sequence && !_isHardStateNew && _hardStateSequence != persistSequence);
        for (var index = fromIndex; index <= Log.Last.Index; index++)
        {
            _uncommittedBytes -= CountedBytes(Log.At(index));
        }

        Log.Truncate(fromIndex);
        _pendingChange = Math.Min(_pendingChange, fromIndex - 1);
        ForgetWritten(fromIndex - 1);
        OnPersisted(persistSequence);
    }

    /// <summary>Until when, on the clock last set, this leader may answer linearizable reads alone; <see cref="long.MinValue"/>:
    /// not at all.</summary>
    public long LeaseEnd
    {
        get
        {
#if PLANTED_BUGS
            if (Planted.Is(Bug.LeaseNeverEnds) && Role == CoreRole.Leader && HasCommittedInTerm)
            {
                return long.MaxValue;
            }
#endif
            return TryLeaseRead(out _) && _leaseStart is { } start ? start + _options.LeaseNanoseconds : long.MinValue;
        }
    }
}

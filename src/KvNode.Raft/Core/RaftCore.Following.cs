namespace KvNode.Raft.Core;

/// <summary>What a node does with a leader's messages, and its acks.</summary>
internal sealed partial class RaftCore
{
    /// <summary>Last index of the log known to agree with the leader of this term.</summary>
    private ulong _accepted;

    /// <summary>That leader, once it sent something.</summary>
    private ulong _ackTo;

    /// <summary>It has not been told all of <see cref="_accepted"/>.</summary>
    private bool _isAckOwed;

    /// <summary>What it was told last.</summary>
    private ulong _acked;

    /// <summary>The newest read round that it sent.</summary>
    private ulong _heardRound;

    private void StepAppend(in Message message)
    {
        var previous = message.Entry;
        var entries = message.Entries.Span;
        if (!IsRun(previous, entries, message.Term))
        {
            return;
        }

        Follow(message);
        if (previous.Index < Commit)
        {
            // What is committed agrees with every leader to come: it is as if only the rest had been sent.
            var known = (int)Math.Min(Commit - previous.Index, (ulong)entries.Length);
            CheckCommitted(entries[..known]);
            entries = entries[known..];
            previous = new EntryId(0, Commit);
        }
        else if (!Log.Matches(previous))
        {
            Send(new Message
            {
                Type = MessageType.AppendResponse,
                To = message.From,
                Reject = true,
                Entry = previous,
                Hint = Log.LastNotAbove(previous.Index, previous.Term),
                ReadRound = _heardRound,
            });
            return;
        }

        Take(entries);
        var lastNew = previous.Index + (ulong)entries.Length;
        Accept(lastNew);
        CommitTo(Math.Min(message.Commit, lastNew));
    }

    /// <summary>Entries that follow on one another, as a leader of this term can have them.</summary>
    private static bool IsRun(EntryId previous, ReadOnlySpan<LogEntry> entries, ulong term)
    {
        foreach (ref readonly var entry in entries)
        {
            if (entry.Id.Index != previous.Index + 1 || entry.Id.Term < previous.Term)
            {
                return false;
            }

            previous = entry.Id;
        }

        return previous.Term <= term;
    }

    /// <summary>No leader has anything else where this node has committed.</summary>
    private void CheckCommitted(ReadOnlySpan<LogEntry> entries)
    {
        foreach (ref readonly var entry in entries)
        {
            Invariant.Check(!Log.TryTerm(entry.Id.Index, out var term) || term == entry.Id.Term);
        }
    }

    private void StepHeartbeat(in Message message)
    {
        Follow(message);
        CheckStillThere(message.Commit);
        var known = Math.Min(message.Commit, _accepted);
#if PLANTED_BUGS
        known = Planted.Is(Bug.HeartbeatCommitsAll) ? message.Commit : known;
#endif
        // Since this start of the node: what it acknowledged before may be lost, with other entries in its place.
        CommitTo(known);
        Send(new Message { Type = MessageType.HeartbeatResponse, To = message.From, ReadRound = message.ReadRound });
    }

    /// <summary>The leader says what this node once acknowledged to it and is committed.</summary>
    /// <exception cref="LogCorruptException">It is not in the log any more, though no restart may lose it.</exception>
    private void CheckStillThere(ulong acknowledged)
    {
        if (acknowledged > Log.Last.Index && !_options.MayLoseTail)
        {
            throw new LogCorruptException(
                $"the log ends at {Log.Last.Index}, though this node acknowledged entries up to {acknowledged}: its disk or its "
                + "directory went back in time, or another process runs on a copy of it. Remove the node from the cluster, and let it join "
                + "again with an empty directory");
        }
    }

    /// <summary>The message is of this term's leader.</summary>
    private void Follow(in Message message)
    {
        Invariant.Check(Role != CoreRole.Leader);
        Invariant.Check(_ackTo == 0 || _ackTo == message.From);
        if (Role != CoreRole.Follower)
        {
            BecomeFollower(Term, message.From);
        }

        SetLeader(message.From);
        _electionElapsed = 0;
        _ticksSinceLeader = 0;
        _ackTo = message.From;
        _heardRound = Math.Max(_heardRound, message.ReadRound);
    }

    /// <summary>Appends what is not there yet, over what disagrees.</summary>
    private void Take(ReadOnlySpan<LogEntry> entries)
    {
        var known = 0;
        while (known < entries.Length && Log.Matches(entries[known].Id))
        {
            known++;
        }

        if (known == entries.Length)
        {
#if PLANTED_BUGS
            if (Planted.Is(Bug.StaleAppendTruncates) && known > 0 && entries[^1].Id.Index < Log.Last.Index
                && entries[^1].Id.Index >= Commit)
            {
                TruncateFrom(entries[^1].Id.Index + 1);
            }
#endif
            return;
        }

        var first = entries[known].Id.Index;
        if (first <= Log.Last.Index)
        {
            Invariant.Check(first > Commit);
            Invariant.Check(first > _accepted);
            TruncateFrom(first);
        }

        foreach (ref readonly var entry in entries[known..])
        {
            Log.Append(entry);
        }
    }

    private void Accept(ulong index)
    {
        _accepted = Math.Max(_accepted, index);
        _isAckOwed = true;
    }

    private void CommitTo(ulong index)
    {
        if (index > Commit)
        {
            Invariant.Check(index <= Log.Last.Index);
            Commit = index;
        }
    }

    /// <summary>
    /// One ack for all that was accepted and is durable. It also says that this node will take nothing from older terms any
    /// more, so the term must be durable, too.
    /// </summary>
    private void FlushAck()
    {
        if (!_isAckOwed || !IsHardStateDurable)
        {
            return;
        }

        var index = Math.Min(_accepted, Durable);
#if PLANTED_BUGS
        index = Planted.Is(Bug.AckBeforeDurable) ? _accepted : index;
#endif
        if (index < _accepted && index <= _acked)
        {
            return;
        }

        _isAckOwed = index < _accepted;
        _acked = index;
        Send(new Message
        {
            Type = MessageType.AppendResponse,
            To = _ackTo,
            Entry = new EntryId(0, index),
            ReadRound = _heardRound,
        });
    }

    /// <summary>A new term: nothing is known of its leader's log.</summary>
    private void ForgetAcks()
    {
        _accepted = 0;
        _ackTo = 0;
        _isAckOwed = false;
        _acked = 0;
        _heardRound = 0;
    }
}

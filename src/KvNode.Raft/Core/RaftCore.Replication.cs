namespace KvNode.Raft.Core;

/// <summary>The leader: its log, what each peer has of it, what is committed.</summary>
internal sealed partial class RaftCore
{
    /// <summary>Other members, by ascending id. Empty unless leader.</summary>
    private readonly List<Progress> _peers = [];

    /// <summary>This node among the voters. A leader that has left them leads until they know.</summary>
    private Progress _self = new(0, 0, 1, 0);
    private bool _isVoting;

    /// <summary>The voters of both halves, this node among them if it votes.</summary>
    private Progress[] _incoming = [];
    private Progress[] _outgoing = [];

    /// <summary>No change is accepted until this index is applied; that of the entry after a change, once there is one.</summary>
    private ulong _pendingChange;

    /// <summary>Size of this term's proposals that are not applied here.</summary>
    private long _uncommittedBytes;

    /// <summary>Heartbeats are to leave with this turn.</summary>
    private bool _isHeartbeatDue;

    /// <summary>Appends an entry on the leader.</summary>
    public ProposeResult Propose(EntryKind kind, ReadOnlyMemory<byte> payload, out EntryId id)
    {
        Invariant.Check(kind != EntryKind.Configuration);
        var result = MayPropose(kind);
        id = result == ProposeResult.Accepted ? AppendOwn(kind, payload) : default;
        return result;
    }

    /// <summary>What <see cref="Propose"/> would say now.</summary>
    public ProposeResult MayPropose(EntryKind kind) =>
        Role != CoreRole.Leader ? ProposeResult.NotLeader
        : TransferTarget != 0 || !_isVoting ? ProposeResult.Transferring
        : kind == EntryKind.Normal && _uncommittedBytes >= _options.UncommittedBytesMax ? ProposeResult.Full
        : ProposeResult.Accepted;

    /// <summary>The connection to a peer broke: what was sent may be lost.</summary>
    public void ReportUnreachable(ulong peer)
    {
        if (FindPeer(peer) is { State: PeerState.Replicate } progress)
        {
            progress.BecomeProbe();
        }
    }

    /// <summary>There is a new connection to a peer. It may have been started anew, and its log may end before what it
    /// acknowledged: it is asked again how its log stands. What is committed stays so.</summary>
    public void ReportConnected(ulong peer)
    {
        if (FindPeer(peer) is { } progress)
        {
            progress.Reconnect(_readRound + 1);
            _isRoundDue = true;
        }
    }

    /// <summary>Answer to a fetch; empty when it failed. The entries may be fewer than asked for. They stay valid until the
    /// message made of them has left.</summary>
    public void OnFetched(ulong peer, ReadOnlyMemory<LogEntry> entries)
    {
        if (FindPeer(peer) is not { IsFetching: true } progress)
        {
            return;
        }

        progress.IsFetching = false;
        if (entries.IsEmpty)
        {
            // The next sign of life from the peer tries again.
            return;
        }

        Want(progress, SendWish.WhatIsNew);
        var isWanted = entries.Span[0].Id.Index == progress.Next && !progress.IsPaused && !progress.Inflights.IsFull;
        if (isWanted && AreOurs(entries.Span))
        {
            SendAppend(progress, entries);
        }
    }

    private void StartLeading()
    {
        // Anything in the log that is not applied may be a change of the configuration.
        _pendingChange = Log.Last.Index;
        _uncommittedBytes = 0;
        _isTimeoutNowSent = false;
        StartReading();
        BuildPeers(areNew: false);
        _ = AppendOwn(EntryKind.Empty, default);
    }

    private void StopLeading()
    {
        _peers.Clear();
        _incoming = [];
        _outgoing = [];
        TransferTarget = 0;
        _isHeartbeatDue = false;
        FailLeaderReads();
    }

    private void TickLeader()
    {
        _electionElapsed++;
        _heartbeatElapsed++;
        if (_electionElapsed >= _options.ElectionTicks)
        {
            _electionElapsed = 0;
            if (!IsQuorumActive())
            {
                BecomeFollower(Term, 0);
                return;
            }

            AbortTransfer();
        }

        if (_heartbeatElapsed >= _options.HeartbeatTicks)
        {
            _heartbeatElapsed = 0;
            _isHeartbeatDue = true;
        }
    }

    /// <summary>Whether a majority was heard from since the last time; begins the next watch.</summary>
    private bool IsQuorumActive()
    {
        Span<ulong> incoming = stackalloc ulong[_incoming.Length];
        Span<ulong> outgoing = stackalloc ulong[_outgoing.Length];
        _self.RecentlyActive = true;
        for (var i = 0; i < incoming.Length; i++)
        {
            incoming[i] = _incoming[i].RecentlyActive ? 1ul : 0;
        }

        for (var i = 0; i < outgoing.Length; i++)
        {
            outgoing[i] = _outgoing[i].RecentlyActive ? 1ul : 0;
        }

        foreach (var peer in _peers)
        {
            peer.RecentlyActive = false;
        }

        return Quorum.Reached(incoming, outgoing) > 0;
    }

    private EntryId AppendOwn(EntryKind kind, ReadOnlyMemory<byte> payload)
    {
        var entry = new LogEntry(new EntryId(Term, Log.Last.Index + 1), kind, payload);
        Log.Append(entry);
        _uncommittedBytes += CountedBytes(entry);
        Broadcast();
        return entry.Id;
    }

    /// <summary>What an entry takes of the limit on what is uncommitted: only what clients want in is held back.</summary>
    private static int CountedBytes(in LogEntry entry) => entry.Kind == EntryKind.Normal ? entry.Size : 0;

    /// <summary>There is something new for everybody.</summary>
    private void Broadcast()
    {
        foreach (var peer in _peers)
        {
            Want(peer, SendWish.WhatIsNew);
        }
    }

    private static void Want(Progress peer, SendWish wish)
    {
        if (wish > peer.Wish)
        {
            peer.Wish = wish;
        }
    }

    /// <summary>Everything that the leader sends in a turn.</summary>
    private void FlushLeader()
    {
        StartReadRound();
        foreach (var peer in _peers)
        {
            if (peer.IsGreetingDue)
            {
                // Before any entries: a peer that lost some must see it before they are there again.
                peer.IsGreetingDue = false;
                SendHeartbeat(peer);
            }

            Flush(peer);
            if (_isHeartbeatDue || (_isRoundNew && peer.SentRound < _readRound))
            {
                SendHeartbeat(peer);
            }
        }

        _isHeartbeatDue = false;
        _isRoundNew = false;
        ConfirmReads();
    }

    private void Flush(Progress peer)
    {
        var wish = peer.Wish;
        peer.Wish = SendWish.None;
        while (wish != SendWish.None && !peer.IsPaused && TrySendAppend(peer, wish == SendWish.Anything))
        {
            wish = SendWish.WhatIsNew;
        }
    }

    private void SendHeartbeat(Progress peer)
    {
        var commit = Math.Min(peer.Acknowledged, Commit);
#if PLANTED_BUGS
        commit = Planted.Is(Bug.HeartbeatCommitsAll) ? Commit : commit;
#endif
        Send(new Message { Type = MessageType.Heartbeat, To = peer.Id, Commit = commit, ReadRound = _readRound });
        peer.SentCommit(Math.Min(commit, peer.Match));
        peer.SentRound = _readRound;
    }

    /// <summary>False: nothing was sent, and nothing can be now.</summary>
    private bool TrySendAppend(Progress peer, bool evenEmpty)
    {
        if (!Log.TryTerm(peer.Next - 1, out _))
        {
            WantSnapshot(peer);
            return false;
        }

        var entries = default(ReadOnlyMemory<LogEntry>);
        var isWindowOpen = peer.State != PeerState.Replicate || !peer.Inflights.IsFull;
        if (isWindowOpen && peer.Next <= Log.Last.Index)
        {
            if (peer.Next >= Log.FirstInMemory)
            {
                entries = Log.Slice(peer.Next, Log.Last.Index, _options.MessageBytesMax);
            }
            else if (peer.State == PeerState.Replicate)
            {
                Fetch(peer);
            }
            else
            {
                // Where the logs part is found without reading the disk for it.
                evenEmpty = true;
            }
        }

        if (entries.IsEmpty && !evenEmpty && !peer.IsCommitNews(Commit))
        {
            return false;
        }

        SendAppend(peer, entries);
        return true;
    }

    private void SendAppend(Progress peer, ReadOnlyMemory<LogEntry> entries)
    {
        Invariant.Check(Log.TryTerm(peer.Next - 1, out var term));
        Send(new Message
        {
            Type = MessageType.Append,
            To = peer.Id,
            Entry = new EntryId(term, peer.Next - 1),
            Commit = Commit,
            ReadRound = _readRound,
            Entries = entries,
        });
        peer.SentRound = _readRound;
        peer.Sent(entries.Length, SizeOf(entries.Span), Commit);
    }

    private void Fetch(Progress peer)
    {
        if (!peer.IsFetching)
        {
            peer.IsFetching = true;
            _ready.Fetches.Add(new FetchRequest(peer.Id, peer.Next, _options.MessageBytesMax));
        }
    }

    private bool AreOurs(ReadOnlySpan<LogEntry> entries)
    {
        var index = entries[0].Id.Index;
        if (!Log.TryTerm(index - 1, out _))
        {
            return false;
        }

        foreach (ref readonly var entry in entries)
        {
            if (entry.Id.Index != index++ || !Log.Matches(entry.Id))
            {
                return false;
            }
        }

        return true;
    }

    private static long SizeOf(ReadOnlySpan<LogEntry> entries)
    {
        long bytes = 0;
        foreach (ref readonly var entry in entries)
        {
            bytes += entry.Size;
        }

        return bytes;
    }

    private void StepAppendResponse(in Message message)
    {
        if (FindPeer(message.From) is not { } peer || message.Entry.Index > Log.Last.Index)
        {
            return;
        }

        Heard(peer, message.ReadRound);
        if (message.ReadRound < peer.FirstRound)
        {
            // Said on the connection before, perhaps by an earlier start of the peer.
            return;
        }

        if (message.Reject)
        {
            Retreat(peer, message);
        }
        else
        {
            Advance(peer, message.Entry.Index);
        }
    }

    private void StepHeartbeatResponse(in Message message)
    {
        if (FindPeer(message.From) is not { } peer)
        {
            return;
        }

        Heard(peer, message.ReadRound);
        peer.Release();
        if (peer.Match < Log.Last.Index || peer.State == PeerState.Probe)
        {
            Want(peer, SendWish.Anything);
        }
    }

    private void Heard(Progress peer, ulong round)
    {
        peer.RecentlyActive = true;
        if (round > peer.EchoedRound && round <= _readRound)
        {
            peer.EchoedRound = round;
            ConfirmReads();
        }
    }

    private void Retreat(Progress peer, in Message message)
    {
        // One probe for each term of the leader's that the peer cannot have, instead of one for each entry.
        var hint = message.Hint.Index;
        if (message.Hint.Term > 0)
        {
            hint = Log.LastNotAbove(hint, message.Hint.Term).Index;
        }

        if (!peer.TryRetreat(message.Entry.Index, hint))
        {
            return;
        }

        if (peer.State == PeerState.Replicate)
        {
            peer.BecomeProbe();
        }

        Want(peer, SendWish.Anything);
    }

    private void Advance(Progress peer, ulong index)
    {
        if (!peer.TryAdvance(index) && !(peer.Match == index && peer.State == PeerState.Probe))
        {
            return;
        }

        switch (peer.State)
        {
            case PeerState.Probe:
                peer.BecomeReplicate();
                break;
            case PeerState.Snapshot when peer.Match >= Log.BeforeFirst.Index:
                // Its log and ours meet again, by this snapshot or otherwise.
                peer.BecomeReplicate();
                break;
            case PeerState.Replicate:
                peer.Inflights.FreeThrough(index);
                break;
            default:
                break;
        }

        Want(peer, SendWish.WhatIsNew);
        TryCommit();
        if (peer.Id == TransferTarget && peer.Match == Log.Last.Index)
        {
            SendTimeoutNow(peer.Id);
        }
    }

    /// <summary>What a majority has durably, this node's disk among it, is committed if it is of this term; what is before
    /// it then is, too. Counting copies of older terms' entries proves nothing (Raft paper, 5.4.2).</summary>
    private void TryCommit()
    {
        if (Role != CoreRole.Leader)
        {
            return;
        }

        Span<ulong> incoming = stackalloc ulong[_incoming.Length];
        Span<ulong> outgoing = stackalloc ulong[_outgoing.Length];
        _self.OwnDurable(Durable);
#if PLANTED_BUGS
        if (Planted.Is(Bug.LeaderCountsUndurable))
        {
            _self.OwnDurable(Log.Last.Index);
        }
#endif
        for (var i = 0; i < incoming.Length; i++)
        {
            incoming[i] = _incoming[i].Match;
        }

        for (var i = 0; i < outgoing.Length; i++)
        {
            outgoing[i] = _outgoing[i].Match;
        }

        var reached = Quorum.Reached(incoming, outgoing);
        var isOfThisTerm = Log.Matches(new EntryId(Term, reached));
#if PLANTED_BUGS
        isOfThisTerm |= Planted.Is(Bug.CommitsOlderTerms);
#endif
        if (reached > Commit && isOfThisTerm)
        {
            Commit = reached;
            Broadcast();
            ReleaseDeferredReads();
        }
    }

    private Progress? FindPeer(ulong id)
    {
        foreach (var peer in _peers)
        {
            if (peer.Id == id)
            {
                return peer;
            }
        }

        return null;
    }
}

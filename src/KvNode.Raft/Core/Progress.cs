namespace KvNode.Raft.Core;

/// <summary>What a flush of the leader's messages should send to a peer.</summary>
internal enum SendWish : byte
{
    None,

    /// <summary>Entries, or a commit index that lets the peer go on.</summary>
    WhatIsNew,

    /// <summary>At least an empty Append: its answer says how the peer's log stands.</summary>
    Anything,
}

/// <summary>
/// What the leader knows of one member and how it sends to it. Probe: one Append at a time until its answer is known.
/// Replicate: <see cref="Next"/> moves on at send, within the window. Snapshot: nothing until the transfer's end.
/// </summary>
/// <remarks>Match &lt; Next. Made anew with each leadership: everything in it was learned in the leader's term.</remarks>
internal sealed class Progress(ulong id, ulong next, int inflightMessagesMax, long inflightBytesMax)
{
    public ulong Id { get; } = id;

    /// <summary>The peer has this index durably, and all before it, as it said on this connection.</summary>
    public ulong Match { get; private set; }

    /// <summary>The most that the peer said it has, on any connection: what a sound disk of its has still.</summary>
    public ulong Acknowledged { get; private set; }

    /// <summary>First index to send next.</summary>
    public ulong Next { get; private set; } = next;

    public PeerState State { get; private set; } = PeerState.Probe;

    /// <summary>The least position that a snapshot under way may have; 0 in other states.</summary>
    public ulong PendingSnapshot { get; private set; }

    /// <summary>Heard from since the last check of the quorum.</summary>
    public bool RecentlyActive { get; set; }

    /// <summary>Probe: one Append is out. Replicate: the window is full.</summary>
    private bool _held;

    /// <summary>Entries were asked of the driver and have not come yet: nothing but empty Appends until then.</summary>
    public bool IsFetching { get; set; }

    public SendWish Wish { get; set; }

    /// <summary>Newest read round that the peer has echoed.</summary>
    public ulong EchoedRound { get; set; }

    /// <summary>Newest read round sent to the peer.</summary>
    public ulong SentRound { get; set; }

    /// <summary>First read round that was sent on this connection: what is said about the log and echoes an older one was
    /// said on the connection before.</summary>
    public ulong FirstRound { get; private set; }

    /// <summary>The first message on this connection has not left: a heartbeat, with what was acknowledged before.</summary>
    public bool IsGreetingDue { get; set; }

    /// <summary>Highest commit index sent that the peer can have taken over.</summary>
    private ulong _sentCommit;

    public Inflights Inflights { get; } = new(inflightMessagesMax, inflightBytesMax);

    public bool IsPaused => State == PeerState.Snapshot || _held;

    /// <summary>Sending this commit index may let the peer commit something that it was not told yet.</summary>
    public bool IsCommitNews(ulong commit) => commit > _sentCommit && _sentCommit < Next - 1;

    public PeerView View() => new(Id, State, Match, Next, RecentlyActive, IsPaused, PendingSnapshot, EchoedRound);

    /// <summary>For the leader's own place among the voters: what its own disk has.</summary>
    public void OwnDurable(ulong index)
    {
        Match = index;
        Next = Math.Max(Next, index + 1);
    }

    /// <summary>Back to one message at a time, after what is known to have arrived (with a snapshot, if one did).</summary>
    public void BecomeProbe(ulong snapshotIndex = 0)
    {
        Next = Math.Max(Match, snapshotIndex) + 1;
        Enter(PeerState.Probe);
        _sentCommit = Math.Min(_sentCommit, Next - 1);
    }

    /// <summary>A new connection, perhaps to a new start of the peer, whose disk may have lost what it had: nothing is known
    /// of its log. The first question is asked where the log ended; the answer finds another place in one step.</summary>
    /// <param name="firstRound">A read round that begins after this.</param>
    public void Reconnect(ulong firstRound)
    {
        if (State == PeerState.Replicate)
        {
            BecomeProbe();
        }

        Match = 0;
        FirstRound = firstRound;
        IsGreetingDue = true;
        _sentCommit = 0;
        _held = false;
    }

    public void BecomeReplicate()
    {
        Next = Match + 1;
        Enter(PeerState.Replicate);
    }

    public void BecomeSnapshot(ulong leastIndex)
    {
        Enter(PeerState.Snapshot);
        PendingSnapshot = leastIndex;
    }

    /// <summary>Nothing more until the peer is heard of.</summary>
    public void Hold() => _held = true;

    /// <summary>A sign of life: one more message may go, even into a full window.</summary>
    public void Release() => _held = false;

    /// <summary>An Append of these entries (perhaps none) leaves.</summary>
    public void Sent(int count, long bytes, ulong commit)
    {
        if (State == PeerState.Replicate)
        {
            if (count > 0)
            {
                Next += (ulong)count;
                Inflights.Add(Next - 1, bytes);
            }

            _held = Inflights.IsFull;
        }
        else
        {
            Invariant.Check(State == PeerState.Probe);
            _held = true;
        }

        SentCommit(commit);
    }

    public void SentCommit(ulong commit) => _sentCommit = Math.Max(_sentCommit, commit);

    /// <summary>The peer has everything up to an index. True when that was news.</summary>
    public bool TryAdvance(ulong index)
    {
        if (index <= Match)
        {
            return false;
        }

        Match = index;
        Acknowledged = Math.Max(Acknowledged, index);
        Next = Math.Max(Next, index + 1);
        _held = false;
        return true;
    }

    /// <summary>The peer refused an Append. False: an old answer that says nothing now.</summary>
    /// <param name="rejected">Index of the entry before that Append.</param>
    /// <param name="hint">The last index where both logs may still agree.</param>
    public bool TryRetreat(ulong rejected, ulong hint)
    {
        if (State == PeerState.Replicate)
        {
            if (rejected <= Match)
            {
                return false;
            }

            Next = Match + 1;
            return true;
        }

        if (State == PeerState.Snapshot || Next - 1 != rejected)
        {
            return false;
        }

        Next = Math.Max(Math.Min(rejected, hint + 1), Match + 1);
        _sentCommit = Math.Min(_sentCommit, Next - 1);
        _held = false;
        return true;
    }

    private void Enter(PeerState state)
    {
        State = state;
        PendingSnapshot = 0;
        _held = false;
        Inflights.Clear();
    }
}

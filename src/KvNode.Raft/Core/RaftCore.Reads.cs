namespace KvNode.Raft.Core;

/// <summary>
/// Linearizable reads. The leader numbers rounds; the newest number rides on every Append and Heartbeat and comes back in
/// their answers. A read joins the next round to begin; when a majority has echoed that round, this node was still leader
/// after the read came in, so the commit index of that moment is new enough.
/// </summary>
internal sealed partial class RaftCore
{
    /// <summary>Rounds of which the time is kept for the lease; further ones prolong no lease.</summary>
    private const int TimedRoundsMax = 64;

    /// <summary>Further reads wait for one to be confirmed, and share. One alone would leave the processors idle for its way
    /// there and back (measured: 5 to 9 % fewer reads), many would have a handful of reads each.</summary>
    private const int RoundsUnderWayMax = 2;

    private readonly List<ReadState> _reads = [];

    /// <summary>Leader: reads by ascending round.</summary>
    private readonly List<PendingRead> _pendingReads = [];

    /// <summary>Leader: reads that wait for the first commit of the term.</summary>
    private readonly List<PendingRead> _deferredReads = [];

    /// <summary>Leader: when rounds began that are not confirmed.</summary>
    private readonly Queue<(ulong Round, long Nanoseconds)> _timedRounds = new();

    /// <summary>Not leader: this node's reads that the leader was or will be asked about, by ascending number.</summary>
    private readonly List<(ulong Number, ulong Context)> _forwardedReads = [];

    /// <summary>Last round begun and last one confirmed. They only grow, over all terms.</summary>
    private ulong _readRound;
    private ulong _confirmedRound;
    private bool _isRoundNew;

    /// <summary>A round is to begin with this turn, whether or not a read waits for it.</summary>
    private bool _isRoundDue;

    /// <summary>When the newest confirmed round began; null when there is no lease.</summary>
    private long? _leaseStart;

    /// <summary>Number of the last question to a leader. Starts somewhere new with each start of the node, so that a late
    /// answer to an earlier life means nothing to this one.</summary>
    private ulong _readNumber;
    private bool _isQuestionDue;

    /// <summary>Asks for a linearizable read. The answer comes as a <see cref="ReadState"/>; false: no leader known, no answer
    /// will come. After a change of leader outstanding ones are answered with Ok = false.</summary>
    public bool ReadIndex(ulong context)
    {
        if (Role == CoreRole.Leader)
        {
            AddRead(0, context);
            return true;
        }

        if (Leader == 0)
        {
            return false;
        }

        // Those of one turn share a question; its number is given when it leaves.
        _forwardedReads.Add((_readNumber + 1, context));
        _isQuestionDue = true;
        return true;
    }

    /// <summary>Leader: the index that a read may be served at now by lease, if the lease holds at the time last set.</summary>
    /// <remarks>A lease ends for good in this term once the leader told another node to campaign: that word may arrive at any
    /// later time, and the votes it brings do not wait. A leader that has left is waited for by nobody.</remarks>
    public bool TryLeaseRead(out ulong index)
    {
        index = Commit;
        return LeasesAreOn
            && Role == CoreRole.Leader
            && _isVoting
            && TransferTarget == 0
            && !_isTimeoutNowSent
            && HasCommittedInTerm
            && _leaseStart is { } start
            && _clock - start < _options.LeaseNanoseconds;
    }

    /// <summary>Leader: has every peer asked with this turn whether it is there. One that has answered since has the returned
    /// number, or a later one, as its <see cref="PeerView.EchoedRound"/>.</summary>
    public ulong AskPeers()
    {
        _isRoundDue = Role == CoreRole.Leader;
        return _readRound + 1;
    }

    private static ulong FirstReadNumber(ulong seed, HardState hardState, EntryId last)
    {
        var random = new SeededRandom(seed ^ (hardState.Term << 40) ^ (last.Index << 16) ^ hardState.Vote);
        return random.Next() >> 1;
    }

    private void AddRead(ulong from, ulong context)
    {
#if PLANTED_BUGS
        if (Planted.Is(Bug.ReadsWithoutRound) && HasCommittedInTerm)
        {
            Answer(new PendingRead(0, Commit, from, context), ok: true);
            return;
        }

        if (Planted.Is(Bug.ReadsBeforeTermCommit) && !HasCommittedInTerm)
        {
            _pendingReads.Add(new PendingRead(_readRound + 1, Commit, from, context));
            return;
        }

        if (Planted.Is(Bug.ReadsJoinOldRound) && HasCommittedInTerm)
        {
            _pendingReads.Add(new PendingRead(Math.Max(_readRound, _confirmedRound), Commit, from, context));
            return;
        }
#endif
        if (HasCommittedInTerm)
        {
            _pendingReads.Add(new PendingRead(_readRound + 1, Commit, from, context));
        }
        else
        {
            // The commit index of earlier terms may be older than what they acknowledged.
            _deferredReads.Add(new PendingRead(0, 0, from, context));
        }
    }

    private void ReleaseDeferredReads()
    {
        foreach (var read in _deferredReads)
        {
            AddRead(read.From, read.Context);
        }

        _deferredReads.Clear();
    }

    private void StartReading()
    {
        _confirmedRound = _readRound;
        _leaseStart = null;
        _timedRounds.Clear();
        _isRoundNew = false;
        _isRoundDue = false;
    }

    /// <summary>Begins a round for the reads that wait for one: when few are under way, or when it costs nothing.</summary>
    private void StartReadRound()
    {
        var isAwaited = _pendingReads.Count > 0 && _pendingReads[^1].Round > _readRound;
        var isFree = _readRound - _confirmedRound < RoundsUnderWayMax || _isHeartbeatDue || AreAppendsLeaving();
        var isForLease = LeasesAreOn && _isHeartbeatDue;
        if (!isForLease && !_isRoundDue && !(isAwaited && isFree))
        {
            return;
        }

        _isRoundDue = false;
        _readRound++;
        _isRoundNew = true;
        if (LeasesAreOn && _clock != long.MinValue && _timedRounds.Count < TimedRoundsMax)
        {
            _timedRounds.Enqueue((_readRound, _clock));
        }
    }

    private bool AreAppendsLeaving()
    {
        foreach (var peer in _peers)
        {
            if (peer.Wish != SendWish.None && !peer.IsPaused && peer.Next <= Log.Last.Index)
            {
                return true;
            }
        }

        return false;
    }

    private void ConfirmReads()
    {
        Span<ulong> incoming = stackalloc ulong[_incoming.Length];
        Span<ulong> outgoing = stackalloc ulong[_outgoing.Length];
        _self.EchoedRound = _readRound;
        for (var i = 0; i < incoming.Length; i++)
        {
            incoming[i] = _incoming[i].EchoedRound;
        }

        for (var i = 0; i < outgoing.Length; i++)
        {
            outgoing[i] = _outgoing[i].EchoedRound;
        }

        var reached = Quorum.Reached(incoming, outgoing);
        if (reached <= _confirmedRound)
        {
            return;
        }

        _confirmedRound = reached;
        while (_timedRounds.Count > 0 && _timedRounds.Peek().Round <= reached)
        {
            _leaseStart = _timedRounds.Dequeue().Nanoseconds;
        }

        var confirmed = 0;
        while (confirmed < _pendingReads.Count && _pendingReads[confirmed].Round <= reached)
        {
            Answer(_pendingReads[confirmed], ok: true);
            confirmed++;
        }

        _pendingReads.RemoveRange(0, confirmed);
    }

    private void FailLeaderReads()
    {
        foreach (var read in _pendingReads)
        {
            Answer(read, ok: false);
        }

        foreach (var read in _deferredReads)
        {
            Answer(read, ok: false);
        }

        _pendingReads.Clear();
        _deferredReads.Clear();
    }

    private void Answer(in PendingRead read, bool ok)
    {
        if (read.From == 0)
        {
            _reads.Add(new ReadState(read.Context, read.Index, ok));
            return;
        }

        Send(new Message
        {
            Type = MessageType.ReadIndexResponse,
            To = read.From,
            Entry = new EntryId(0, read.Index),
            Context = read.Context,
            Reject = !ok,
        });
    }

    /// <summary>Another node asks. A node that is not leader either passes the question on, as the asker's: the answer goes
    /// straight back.</summary>
    private void StepReadIndex(in Message message)
    {
        if (Role == CoreRole.Leader)
        {
            AddRead(message.From, message.Context);
        }
        else if (Leader != 0 && Leader != message.From)
        {
            SendTermless(message with { To = Leader });
        }
        else
        {
            Answer(new PendingRead(0, 0, message.From, message.Context), ok: false);
        }
    }

    /// <summary>An answer stands for its question and all earlier ones: it came later than they were asked.</summary>
    private void StepReadIndexResponse(in Message message)
    {
        var answered = 0;
        while (answered < _forwardedReads.Count
            && _forwardedReads[answered].Number <= message.Context
            && message.Context <= _readNumber)
        {
            _reads.Add(new ReadState(_forwardedReads[answered].Context, message.Entry.Index, !message.Reject));
            answered++;
        }

        _forwardedReads.RemoveRange(0, answered);
    }

    /// <summary>Questions and answers get lost: the newest question is asked again, which stands for all.</summary>
    private void TickForwardedReads()
    {
        _heartbeatElapsed++;
        if (_heartbeatElapsed >= _options.HeartbeatTicks)
        {
            _heartbeatElapsed = 0;
            _isQuestionDue |= _forwardedReads.Count > 0;
        }
    }

    private void FlushForwardedReads()
    {
        var isDue = _isQuestionDue && _forwardedReads.Count > 0;
        _isQuestionDue = false;
        if (!isDue)
        {
            return;
        }

        if (_forwardedReads[^1].Number > _readNumber)
        {
            _readNumber++;
        }

        SendTermless(new Message { Type = MessageType.ReadIndex, From = NodeId, To = Leader, Context = _readNumber });
    }

    private void FailForwardedReads()
    {
        foreach (var (_, context) in _forwardedReads)
        {
            _reads.Add(new ReadState(context, 0, Ok: false));
        }

        _forwardedReads.Clear();
        _isQuestionDue = false;
    }

    /// <param name="From">0 for this node.</param>
    /// <param name="Context">The reader's number.</param>
    private readonly record struct PendingRead(ulong Round, ulong Index, ulong From, ulong Context);
}

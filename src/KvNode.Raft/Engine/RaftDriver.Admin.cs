using KvNode.Raft.Core;

namespace KvNode.Raft.Engine;

// Changes of the cluster, and the care of the log.
internal sealed partial class RaftDriver
{
    private readonly List<PendingChange> _changes = [];
    private readonly Dictionary<ulong, Promotion> _promotions = [];
    private ulong _activeSegment;
    private bool _handingOver;

    private sealed record PendingChange(EntryId Id, TaskCompletionSource<AdminOutcome> Done);

    private sealed class Promotion
    {
        /// <summary>Index that ends the round.</summary>
        public ulong Target { get; private set; }

        public long Since { get; private set; }

        /// <summary>Put to the learner when the round began: one that died may have caught up before.</summary>
        public ulong Question { get; private set; }

        public void BeginRound(RaftCore core, long now) =>
            (Target, Since, Question) = (core.Log.Last.Index, now, core.AskPeers());
    }

    /// <summary>Raft thread, through <see cref="Mailbox.Post(Action)"/>. Completes when the change is over: in force here, and
    /// known to a majority of the voters there are then, so that who left can be stopped.</summary>
    public void Change(ConfigurationChange change, TaskCompletionSource<AdminOutcome> done)
    {
        var result = _core.ProposeChange(change, out var id, out var refusal);
        if (result != ProposeResult.Accepted)
        {
            done.SetResult(new AdminOutcome(false, refusal ?? Words(result)));
            return;
        }

        _changes.Add(new PendingChange(id, done));
        Drain();
    }

    /// <summary>Makes a learner a voter once it has caught up. Raft thread; leader only, forgotten when another leads.</summary>
    public void PromoteWhenReady(ulong learner)
    {
        if (_core.Role == CoreRole.Leader && _core.Membership.IsLearner(learner) && !_promotions.ContainsKey(learner))
        {
            var promotion = new Promotion();
            promotion.BeginRound(_core, _now);
            _promotions.Add(learner, promotion);
        }
    }

    /// <summary>Hands leadership to a node, or to the most advanced voter. Raft thread.</summary>
    public bool TransferTo(ulong? target)
    {
        var to = target ?? MostAdvanced();
        if (to == 0 || to == _core.NodeId)
        {
            return false;
        }

        _core.TransferLeader(to);
        Drain();
        return true;
    }

    private static string Words(ProposeResult result) => result switch
    {
        ProposeResult.NotLeader => "this node is not the leader",
        ProposeResult.Transferring => "leadership is being handed over",
        ProposeResult.Full => "too many writes are on their way",
        _ => "not possible now",
    };

    private void CompleteChanges(ulong applied)
    {
        for (var i = _changes.Count - 1; i >= 0; i--)
        {
            var (id, done) = _changes[i];
            if (id.Index <= applied && !_core.IsChangePending)
            {
                _changes.RemoveAt(i);
                // An entry of another term in its place: another leader came between.
                var ok = !_core.Log.TryTerm(id.Index, out var term) || term == id.Term;
                done.SetResult(new AdminOutcome(ok, ok ? "done" : "another leader was elected before the change was agreed"));
            }
        }
    }

    private void FailChanges(string reason)
    {
        foreach (var (_, done) in _changes)
        {
            done.SetResult(new AdminOutcome(false, reason));
        }

        _changes.Clear();
    }

    /// <summary>The voter with the longest log, of those that answer; 0 for none.</summary>
    private ulong MostAdvanced()
    {
        var best = 0UL;
        var match = 0UL;
        foreach (var peer in _core.Peers)
        {
            if (peer.RecentlyActive && _links.IsConnected(peer.Id) && peer.Match >= match && _membership.IsVoter(peer.Id))
            {
                (best, match) = (peer.Id, peer.Match);
            }
        }

        return best;
    }

    /// <summary>A leader that cannot write holds everybody up: it steps aside for one that can.</summary>
    private void WatchDisk()
    {
        var stalled = _persist.BusyTime > _options.DiskStall;
        if (_alone)
        {
            if (_persist.Refusal is not null)
            {
                _persist.TryResume();
            }

            if (_persist.Refusal is null && IsLeader && _core.Log.Last.Term < _core.Term)
            {
                // The term's first entry was among what the full disk refused.
                _ = _core.Propose(EntryKind.Empty, default, out _);
            }

            return;
        }

        if (!IsLeader || !(stalled || _persist.Refusal is not null))
        {
            _handingOver = false;
            return;
        }

        // First the gentle way, at the next look the other one.
        if (!_handingOver && TransferTo(null))
        {
            _handingOver = true;
        }
        else if (_core.TransferTarget == 0)
        {
            _handingOver = false;
            _core.Resign();
            Drain();
        }
    }

    /// <summary>
    /// Rounds of catching up (thesis 4.2.1): a learner that covered what there was at a round's start within an election
    /// timeout is close enough to vote.
    /// </summary>
    private void Promote()
    {
        if (_promotions.Count == 0 || !IsLeader)
        {
            return;
        }

        foreach (var peer in View.Peers)
        {
            if (!_promotions.TryGetValue(peer.Id, out var round) || peer.Match < round.Target || peer.EchoedRound < round.Question)
            {
                continue;
            }

            if (_now - round.Since >= _options.ElectionTimeout.TotalNanoseconds)
            {
                round.BeginRound(_core, _now);
                continue;
            }

            var change = new ConfigurationChange(
                ChangeTransition.Auto, [new NodeChange(MembershipChangeKind.Promote, peer.Id, AddressOf(peer.Id) ?? "")]);
            if (_core.ProposeChange(change, out _, out _) == ProposeResult.Accepted)
            {
                _ = _promotions.Remove(peer.Id);
                Drain();
                return;
            }
        }
    }

    /// <summary>Those that are learners no more: were they kept, a later demotion would be undone.</summary>
    private void ForgetPromotions()
    {
        foreach (var (node, _) in _promotions)
        {
            if (!_membership.IsLearner(node))
            {
                _ = _promotions.Remove(node);
            }
        }
    }

    /// <summary>Lets go of what nobody needs: memory, and whole segments on disk.</summary>
    private void TrimLog()
    {
        var safe = Math.Min(_core.Applied, _core.Durable);
        var slowest = SlowestMatch();
        Evict(_core.Log.BytesInMemory > _options.CacheBytesMax ? safe : Math.Min(safe, slowest));
        var log = _parts.Log;
        if (log.ActiveSegment == _activeSegment)
        {
            return;
        }

        _activeSegment = log.ActiveSegment;
        Retire(slowest);
    }

    /// <summary>
    /// Gives up log that the state machine has made durable and, unless it has grown too large, all members have. Beyond that
    /// it is kept for those who are on their way: by another <see cref="DriverOptions.LogBytesMax"/>, or as much as the
    /// state takes, for as long as what they need is there. Else one snapshot would follow the other while writes go on.
    /// </summary>
    private void Retire(ulong slowest)
    {
        var log = _parts.Log;
        var durable = _parts.Machine.Durable.Index;
#if PLANTED_BUGS
        durable = Planted.Is(Bug.CompactsWhatIsNotDurable) ? Math.Min(_core.Applied, _core.Durable) : durable;
#endif
        var beyond = log.Bytes - _options.LogBytesMax;
        if (beyond > 0)
        {
            slowest = beyond <= Math.Max(_options.LogBytesMax, _parts.Machine.StateBytes) ? SlowestOnItsWay() : ulong.MaxValue;
        }

        _ = RetireThrough(Math.Min(durable, slowest));
    }

    private ulong SlowestOnItsWay()
    {
        var slowest = _parts.Snapshots.KeepAfter;
        foreach (var peer in View.Peers)
        {
            var isServed = peer.State != PeerState.Snapshot && peer.Match + 1 >= _parts.Log.FirstIndex;
            slowest = isServed && _links.IsConnected(peer.Id) ? Math.Min(slowest, peer.Match) : slowest;
        }

        return slowest;
    }

    /// <summary>Gives up all log that the state machine has made durable. Raft thread.</summary>
    public int RetireAll() => RetireThrough(_parts.Machine.Durable.Index);

    private int RetireThrough(ulong index)
    {
        // The machine may be ahead of what this thread has been told.
        var count = _parts.Log.Retire(Math.Min(index, _core.Log.Releasable));
        var gone = _parts.Log.FirstIndex - 1;
        Evict(gone);
        _core.Log.Compact(gone);
        return count;
    }

    private ulong SlowestMatch()
    {
        var slowest = ulong.MaxValue;
        foreach (var peer in View.Peers)
        {
            slowest = Math.Min(slowest, peer.Match);
        }

        return slowest;
    }

    private void Evict(ulong through)
    {
        if (through >= _core.Log.FirstInMemory)
        {
            _core.Log.Evict(through);
            _arena.Release(_core.Log.FirstInMemory);
        }
    }

    private void Publish()
    {
        if (!IsLeader && (_changes.Count > 0 || _promotions.Count > 0))
        {
            FailChanges("leadership was lost; the change may still take effect");
            _promotions.Clear();
        }

        PublishView();
    }
}

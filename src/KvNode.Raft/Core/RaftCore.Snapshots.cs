namespace KvNode.Raft.Core;

/// <summary>When the log does not reach back far enough: the state itself goes to the peer, by the driver.</summary>
internal sealed partial class RaftCore
{
    /// <summary>The snapshot being taken over: in the log already, on the disk not yet.</summary>
    private Restoring? _restoring;

    /// <summary>It goes into the next persist.</summary>
    private bool _isSnapshotNew;

    private bool IsRestoring => _restoring is not null;

    /// <summary>How a snapshot transfer ended. Nothing more is sent until the peer is heard of.</summary>
    public void ReportSnapshot(ulong peer, EntryId position, bool ok)
    {
        if (FindPeer(peer) is { State: PeerState.Snapshot } progress)
        {
            progress.BecomeProbe(ok ? Math.Min(position.Index, Log.Last.Index) : 0);
            progress.Hold();
        }
    }

    /// <summary>
    /// Follower: a snapshot was received and checked, and the state machine can swap to it. When it is newer than what is
    /// committed, the log restarts there, <see cref="PersistRequest.Snapshot"/> says so, and it counts as applied when
    /// persisted. False: not needed (the log has all of it) or not for this node (it is not a member there, or leads); the
    /// log stays as it is.
    /// </summary>
    /// <remarks>What was committed stays so in every term: a snapshot of an older term's leader is as good.</remarks>
    public bool OnSnapshotReceived(ulong leader, ulong term, EntryId position, Membership membership)
    {
        Invariant.Check(position.Term <= term);
        var message = new Message { Type = MessageType.InstallSnapshot, From = leader, Term = term, Entry = position };
        if (IsNoneOfOurs(message))
        {
            return false;
        }

        if (term > Term)
        {
            BecomeFollower(term, leader);
        }

        if (Role == CoreRole.Leader)
        {
            RefuseAsLeader(term);
            return false;
        }

        if (term == Term)
        {
            Follow(message);
        }

        if (TryAnswerFromLog(message) || !membership.Contains(NodeId))
        {
            return false;
        }

        if (Role != CoreRole.Follower)
        {
            // What it told the voters about its log is about to be untrue.
            BecomeFollower(Term, 0);
        }

        Restore(position, membership);
        if (term == Term)
        {
            Accept(position.Index);
        }

        return true;
    }

    /// <summary>What a transfer may begin with. When the log has all of it, the answer says so, and the transfer can end.</summary>
    /// <remarks>The engine does not send it: a transfer has a connection of its own, which begins with the offer. It stays
    /// because it is a number on the wire, and as what the scenarios and the chaos test send in a transfer's place: that it is
    /// a leader's message in every role and term is a part of what they check.</remarks>
    private void StepInstallSnapshot(in Message message)
    {
        if (Role == CoreRole.Leader)
        {
            RefuseAsLeader(message.Term);
            return;
        }

        Follow(message);
        _ = TryAnswerFromLog(message);
    }

    /// <summary>Nobody else can lead in this node's term. If it looks so, following is the safe side.</summary>
    private void RefuseAsLeader(ulong term)
    {
        if (term == Term)
        {
            BecomeFollower(Term, 0);
        }
    }

    /// <summary>The log already has the snapshot's position: it is committed, so no state is needed.</summary>
    private bool TryAnswerFromLog(in Message message)
    {
        var position = message.Entry;
        if (position.Index > Commit && !Log.Matches(position))
        {
            return false;
        }

        CommitTo(position.Index);
        if (message.Term == Term)
        {
            Accept(Commit);
        }

        return true;
    }

    private void Restore(EntryId position, Membership membership)
    {
        ForgetWritten(Commit);
        Log.Restart(position);
        Commit = position.Index;
        _truncateFrom = 0;
        _handedOut = position.Index;
        _applying = position.Index;
        _applyingBytes = 0;
        _restoring = new Restoring(position, membership);
        _isSnapshotNew = true;
    }

    /// <summary>A snapshot that a newer one overtook is only a step on the way.</summary>
    private void OnSnapshotDurable(EntryId position)
    {
        if (_restoring is { } restoring && restoring.Position == position)
        {
            Applied = position.Index;
#if PLANTED_BUGS
            restoring = Planted.Is(Bug.SnapshotWithoutMembership) ? restoring with { Membership = Membership } : restoring;
#endif
            Membership = restoring.Membership;
            _restoring = null;
        }
    }

    private void WantSnapshot(Progress peer)
    {
        if (peer.RecentlyActive)
        {
            peer.BecomeSnapshot(Log.BeforeFirst.Index);
            _ready.SnapshotsWanted.Add(peer.Id);
        }
    }

    private sealed record Restoring(EntryId Position, Membership Membership);
}

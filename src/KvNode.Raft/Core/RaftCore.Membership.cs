namespace KvNode.Raft.Core;

/// <summary>
/// Changes of the configuration. Each is in force on a node from the moment that node has applied it, and over when an entry
/// after it is committed by the voters that it left: only then does a majority of them have on its disks that it is committed,
/// and needs nobody who left any more. A leader that leaves leads until then.
/// </summary>
internal sealed partial class RaftCore
{
    /// <summary>Appends a configuration change on the leader; refused (with a reason for people) while another is pending,
    /// not applied, or where it makes no sense. One already in force is refused too, as such.</summary>
    public ProposeResult ProposeChange(ConfigurationChange change, out EntryId id, out string? refusal)
    {
        id = default;
        refusal = null;
        if (Role != CoreRole.Leader)
        {
            return ProposeResult.NotLeader;
        }

        if (TransferTarget != 0 || !_isVoting)
        {
            return ProposeResult.Transferring;
        }

        var isPending = Applied < _pendingChange;
#if PLANTED_BUGS
        isPending &= !Planted.Is(Bug.ChangesWhilePending);
#endif
        if (isPending)
        {
            refusal = "an earlier change may be pending";
            return ProposeResult.Refused;
        }

        var after = Membership.TryApply(change, out refusal);
        if (after is null)
        {
            return ProposeResult.Refused;
        }

        if (after.Equals(Membership))
        {
            refusal = "it is already so";
            return ProposeResult.Refused;
        }

        id = AppendChange(change);
        return ProposeResult.Accepted;
    }

    /// <summary>A change of this leader's, or one that it may have found in its log, is not over.</summary>
    public bool IsChangePending => Applied < _pendingChange || Membership is { IsJoint: true, AutoLeave: true };

    /// <summary>Leads, and no change, nor a transfer, is under way.</summary>
    public bool MayChange => Role == CoreRole.Leader && TransferTarget == 0 && !IsChangePending && !Membership.IsJoint;

    private EntryId AppendChange(ConfigurationChange change)
    {
        var id = AppendOwn(EntryKind.Configuration, change.Encode());
        _pendingChange = id.Index;
        return id;
    }

    /// <summary>A committed change has been applied. One that is not possible changes nothing, on every node alike.</summary>
    private void ApplyChange(ReadOnlySpan<byte> payload)
    {
        var after = Membership.TryApply(ConfigurationChange.Decode(payload), out _);
        if (after is null)
        {
            return;
        }

        Membership = after;
        if (Role != CoreRole.Leader)
        {
            return;
        }

        BuildPeers(areNew: true);
        if (!Membership.IsVoter(TransferTarget))
        {
            TransferTarget = 0;
        }

        // With fewer voters, more may be committed and confirmed.
        TryCommit();
        ConfirmReads();
        var isKnownLater = !Membership.IsJoint;
#if PLANTED_BUGS
        isKnownLater &= !Planted.Is(Bug.LeavesAtOnce);
#endif
        if (isKnownLater)
        {
            _pendingChange = AppendOwn(EntryKind.Empty, default).Index;
        }

        Broadcast();
    }

    /// <summary>When a change is over: the leader ends a joint configuration that wants to be left, and one without a vote
    /// makes way.</summary>
    private void EndChange()
    {
        if (Role != CoreRole.Leader || Applied < _pendingChange || TransferTarget != 0)
        {
            return;
        }

        if (!_isVoting)
        {
            MakeWay();
        }
        else if (Membership.IsJoint && Membership.AutoLeave)
        {
            _ = AppendChange(ConfigurationChange.LeaveJoint);
        }
    }

    /// <summary>Steps down, and has the most advanced voter campaign at once.</summary>
    private void MakeWay()
    {
        Progress? next = null;
        foreach (var peer in _peers)
        {
            if (Membership.IsVoter(peer.Id) && peer.Match >= (next?.Match ?? _pendingChange))
            {
                next = peer;
            }
        }

        if (next is not null)
        {
            SendTimeoutNow(next.Id);
        }

        BecomeFollower(Term, 0);
    }

    /// <summary>One record for each other member; what is known of those who stay is kept.</summary>
    /// <param name="areNew">Members without a record have just joined: they count as active, or the leader might lose its
    /// quorum to them before they can answer.</param>
    private void BuildPeers(bool areNew)
    {
        Progress[] known = [.. _peers];
        _peers.Clear();
        _self = Make(NodeId);
        foreach (var id in new SortedSet<ulong>(Membership.Addresses.Keys))
        {
            if (id == NodeId)
            {
                continue;
            }

            var peer = Array.Find(known, old => old.Id == id);
            if (peer is null)
            {
                peer = Make(id);
                peer.RecentlyActive = areNew;
            }

            _peers.Add(peer);
        }

        _isVoting = Membership.IsVoter(NodeId);
        _incoming = VotersOf(Membership.VoterSpan);
        _outgoing = VotersOf(Membership.OutgoingSpan);
    }

    private Progress Make(ulong id) =>
        new(id, Log.Last.Index + 1, _options.InflightMessagesMax, _options.InflightBytesMax);

    private Progress[] VotersOf(ReadOnlySpan<ulong> ids)
    {
        var voters = new Progress[ids.Length];
        for (var i = 0; i < voters.Length; i++)
        {
            var voter = ids[i] == NodeId ? _self : FindPeer(ids[i]);
            Invariant.Check(voter is not null);
            voters[i] = voter;
        }

        return voters;
    }
}

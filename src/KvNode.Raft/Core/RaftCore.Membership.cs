namespace KvNode.Raft.Core;

/// <summary>Changes of the configuration. Each is in force on a node from the moment that node has applied it.</summary>
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

        if (TransferTarget != 0)
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

    /// <summary>Leads, and no change, nor a transfer, is under way.</summary>
    public bool MayChange => Role == CoreRole.Leader && TransferTarget == 0 && Applied >= _pendingChange && !Membership.IsJoint;

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

        if (!Membership.IsVoter(NodeId))
        {
            BecomeFollower(Term, 0);
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
        Broadcast();
    }

    /// <summary>The leader ends a joint configuration that wants to be left: once, when all changes before are applied.</summary>
    private void TryLeaveJoint()
    {
        if (Role == CoreRole.Leader
            && Membership.IsJoint
            && Membership.AutoLeave
            && Applied >= _pendingChange
            && TransferTarget == 0)
        {
            _ = AppendChange(ConfigurationChange.LeaveJoint);
        }
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

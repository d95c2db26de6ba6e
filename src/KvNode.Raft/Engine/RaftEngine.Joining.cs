using System.Text;
using KvNode.Raft.Core;
using KvNode.Raft.Identity;
using KvNode.Raft.Transport;

namespace KvNode.Raft.Engine;

// This node's own way into its cluster and out of it.
public sealed partial class RaftEngine
{
    private const string RemovedReason = "this node was removed from its cluster";
    private const string ComesBackEmpty = "the node was removed from its cluster; it can come back with an empty directory";

    private static readonly TimeSpan JoinPause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan JoinPauseMax = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan JoinAskTimeout = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan NotJoinedAgain = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan LeaveTimeout = TimeSpan.FromSeconds(5);

    // Under it the identity is changed: by invitations and by the keeping of the membership.
    private readonly Lock _identityGate = new();

    // What was said of nodes asked in vain, and when.
    private readonly Dictionary<string, (string Reason, long At)> _notJoined = [];
    private string? _hint;
    private int _asked;
    private bool? _notedVoter;
    private volatile bool _removed;

    /// <summary>News of this node's membership, for the log; true: somebody should do something. Any thread.</summary>
    public event Action<bool, string>? Noted;

    private bool IsRemoved => _removed;

    private static void CheckNotRemoved(NodeIdentity identity)
    {
        if (identity.IsRemoved)
        {
            throw new NodeRemovedException(
                $"{RemovedReason} ({identity.ClusterId:x16}) and takes no part in it any more. To come back, empty its "
                + "directory and start it with --join; its data can still be had with 'kvnode recover'");
        }
    }

    // A node that is to join must be empty, or its own past would become the cluster's.
    private void BeginJoin(NodeIdentity identity, bool isEmpty)
    {
        if (_options.Join is null || identity.ClusterId != 0)
        {
            return;
        }

        if (!isEmpty)
        {
            throw new JoinRefusedException(
                "this directory holds the data of a node by itself, which would be lost in the cluster to join. Start on an "
                + "empty directory, or without --join");
        }

        if (_options.Join != RaftOptions.WaitToBeAdded)
        {
            identity.Note(isJoining: true, isMember: false);
        }
    }

    /// <summary>
    /// For as long as the node runs: until it is a voter at its present address, it asks to be; it finds out when it was
    /// removed. A node that joins asks whom it was told to; others ask the members that they know, and all of them
    /// whoever leads.
    /// </summary>
    private async Task KeepMembershipAsync()
    {
        var pause = JoinPause;
        try
        {
            SayHowItBegins();
            while (!_removed)
            {
                await Task.Delay(pause, _end);
                NoteMembership();
                if (IsSettled())
                {
                    pause = JoinPauseMax / 2;
                    continue;
                }

                pause = TimeSpan.FromTicks(Math.Clamp(pause.Ticks * 2, JoinPause.Ticks, JoinPauseMax.Ticks));
                await AskToBeMemberAsync();
            }
        }
        catch (OperationCanceledException)
        {
            // The node stops.
        }
        catch (Exception e)
        {
            Fail(e);
        }
    }

    private void SayHowItBegins()
    {
        var identity = _identity!;
        var isMember = _driver!.Membership.Contains(identity.NodeId);
        if (isMember && _options.Join is not null && _driver.Membership.Addresses.Count == 1)
        {
            Noted?.Invoke(
                true,
                $"node {identity.NodeId:x16} is the only member of cluster {identity.ClusterId:x16} and joins no other: --join has no effect. "
                + "To join, start on an empty directory");
        }
        else if (isMember && _options.Join is not null)
        {
            Noted?.Invoke(false, $"node {identity.NodeId:x16} is a member of cluster {identity.ClusterId:x16}: --join has no effect");
        }
        else if (isMember)
        {
            Noted?.Invoke(false, $"node {identity.NodeId:x16} of cluster {identity.ClusterId:x16}");
        }
        else if (_options.Join is { } member && member != RaftOptions.WaitToBeAdded)
        {
            Noted?.Invoke(false, $"node {identity.NodeId:x16} joins the cluster of {member}");
        }
        else
        {
            Noted?.Invoke(
                _options.Join is null,
                $"node {identity.NodeId:x16} is in no cluster's configuration yet and waits to be added "
                + $"(RAFT SERVER ADD {_options.Address}, or start it with --join and a member's address)");
        }
    }

    /// <summary>Takes down what the configuration in force says of this node.</summary>
    private void NoteMembership()
    {
        var members = _driver!.Membership;
        var identity = _identity!;
        lock (_identityGate)
        {
            if (members.Contains(identity.NodeId))
            {
                var isVoter = members.IsVoter(identity.NodeId);
                identity.Note(isJoining: identity.IsJoining && !isVoter, isMember: true);
                if (_notedVoter != isVoter)
                {
                    _notedVoter = isVoter;
                    Noted?.Invoke(false, $"node {identity.NodeId:x16} is a {(isVoter ? "voter" : "learner")} of cluster {identity.ClusterId:x16}");
                }
            }
        }
    }

    private void LearnRemoved()
    {
        lock (_identityGate)
        {
            _identity!.MarkRemoved();
        }

        // Whoever sees that the node is removed comes after this: its writes are refused in these words.
        _mailbox.Post(() => _driver!.Exclude(RemovedReason));
        _removed = true;
        _links!.SetPeers(new Dictionary<ulong, string>());
        Noted?.Invoke(true, $"{RemovedReason} ({_identity.ClusterId:x16}): it accepts no writes any more and can be stopped");
    }

    private bool IsSettled()
    {
        var members = _driver!.Membership;
        var identity = _identity!;
        if (!members.Contains(identity.NodeId))
        {
            // One that was never a member and does not ask to be one waits for the leader that invites it, or has.
            return !identity.IsMember && !identity.IsJoining;
        }

        var isWhereItSays = members.Addresses[identity.NodeId] == _options.Address;
        return isWhereItSays && !identity.IsJoining && (_driver.View.Leader != 0 || members.Addresses.Count == 1);
    }

    private async Task AskToBeMemberAsync()
    {
        var identity = _identity!;
        var options = (identity.IsMember ? AskOptions.WasMember : AskOptions.None)
            | (identity.IsJoining ? AskOptions.ToVote : AskOptions.None);
        var ask = new ClusterAsk(AskKind.Join, (byte)options, identity.NodeId, _options.Address);
        if (_core!.Role == CoreRole.Leader)
        {
            _ = await AnswerAsync(ask);
            return;
        }

        if (NextToAsk() is not { } target)
        {
            return;
        }

        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(_end);
        timeout.CancelAfter(JoinAskTimeout);
        try
        {
            var reply = await _links!.AskAsync(
                target, ask.ToRequest(identity.NodeId, identity.ClusterId != 0), timeout.Token);
            OnJoinAnswer(target, reply);
        }
        catch (TransportException e)
        {
            if (target == _options.Join && !identity.IsMember && IsForGood(e))
            {
                throw new JoinRefusedException($"this node cannot join: {e.Message}");
            }

            NoteNotJoined(target, e.Message);
        }
        catch (OperationCanceledException)
        {
            _end.ThrowIfCancellationRequested();
            NoteNotJoined(target, "it does not answer in time");
        }
    }

    /// <summary>Why a node that joins gets nowhere, once for each node asked, and again when it changes or has lasted.</summary>
    private void NoteNotJoined(string target, string reason)
    {
        // What keeps a member from the others is said of the connections to them.
        if (_driver!.Membership.Contains(_identity!.NodeId)
            || (_notJoined.TryGetValue(target, out var said) && said.Reason == reason && Now() - said.At < NotJoinedAgain.TotalNanoseconds))
        {
            return;
        }

        _notJoined[target] = (reason, Now());
        Noted?.Invoke(true, $"this node does not get into the cluster of {target} yet and tries again: {reason}");
    }

    private static bool IsForGood(TransportException e) => e.InnerException is PeerRefusedException
    {
        Refusal: PeerRefusal.Cluster or PeerRefusal.Proof or PeerRefusal.Version or PeerRefusal.SameNode,
    };

    private void OnJoinAnswer(string target, ControlReply reply)
    {
        var text = Encoding.UTF8.GetString(reply.Body.Span);
        switch ((AskReply)reply.Status)
        {
            case AskReply.Pending when text.Length > 0:
                NoteNotJoined(target, text);
                break;
            case AskReply.Done or AskReply.Pending:
                _hint = target;
                EnterCluster(reply.ClusterId);
                break;
            case AskReply.AskLeader:
                _hint = text.Length > 0 ? text : null;
                if (_hint is null)
                {
                    NoteNotJoined(target, reply.ClusterId == 0 ? "that node is in no cluster itself" : "that node knows of no leader");
                }

                break;
            case AskReply.Removed:
                LearnRemoved();
                break;
            case AskReply.Refused when _identity!.IsMember:
                Noted?.Invoke(true, $"the leader at {target} does not take over the address {_options.Address}: {text}");
                break;
            default:
                throw new JoinRefusedException($"the cluster of {target} does not take this node: {text}");
        }
    }

    private void EnterCluster(ulong cluster)
    {
        lock (_identityGate)
        {
            if (_identity!.ClusterId == 0)
            {
                _identity.SetCluster(cluster);
                _links!.SetCluster(cluster);
                Noted?.Invoke(false, $"node {_identity.NodeId:x16} enters cluster {cluster:x16}");
            }
        }
    }

    /// <summary>The leader, if it is known; else one after another whoever might know it.</summary>
    private string? NextToAsk()
    {
        if (_hint is { } hint)
        {
            _hint = null;
            return hint;
        }

        var candidates = new List<string>();
        Add(AddressOf(_driver!.View.Leader));
        Add(_options.Join == RaftOptions.WaitToBeAdded ? null : _options.Join);
        foreach (var (_, address) in _driver.Membership.Addresses)
        {
            Add(address);
        }

        return candidates.Count == 0 ? null : candidates[_asked++ % candidates.Count];

        void Add(string? address)
        {
            if (address is not null && address != _options.Address && !candidates.Contains(address))
            {
                candidates.Add(address);
            }
        }
    }

    /// <summary>A leader asks this node to be a member of its cluster, or to become a voter of it. A node that has been a member
    /// answers <see cref="AskReply.Removed"/>: the leader knows whether it still is one, and if not, it does not come back under
    /// its id, for its vote and its acks of then must not count twice. Any thread.</summary>
    internal Answer OnInvitation(ClusterAsk ask)
    {
        lock (_identityGate)
        {
            NoteMembership();
            var identity = _identity!;
            if (identity.IsRemoved)
            {
                return Answer.Refused(ComesBackEmpty);
            }

            if (identity.ClusterId != 0 && identity.ClusterId != ask.Node)
            {
                return Answer.Refused("the node is in another cluster");
            }

            var toVote = ((AskOptions)ask.Option).HasFlag(AskOptions.ToVote);
            if (identity.IsMember)
            {
                identity.Note(
                    isJoining: identity.IsJoining || (toVote && !_driver!.Membership.IsVoter(identity.NodeId)), isMember: true);
                return new Answer(AskReply.Removed, ComesBackEmpty);
            }

            identity.Note(isJoining: toVote, isMember: false);
            EnterCluster(ask.Node);
            _hint = ask.First;
            return Answer.Done("");
        }
    }

    /// <summary>Leader: asked again and again by a node that is not where it wants to be; does the next step that is missing.</summary>
    private async Task<Answer> JoinAsync(ClusterAsk ask)
    {
        var options = (AskOptions)ask.Option;
        var members = _driver!.Membership;
        if (!members.Contains(ask.Node) && options.HasFlag(AskOptions.WasMember))
        {
            // A leader that was deposed may not know yet who is a member now; and the node takes it as said for good.
            return await IsMemberAsync(ask.Node) is false
                ? new Answer(AskReply.Removed, "")
                : new Answer(AskReply.Pending, "");
        }

        if (members.Addresses.TryGetValue(ask.Node, out var known) && known == ask.First)
        {
            if (members.IsVoter(ask.Node) || !options.HasFlag(AskOptions.ToVote))
            {
                return Answer.Done("");
            }

            _ = await OnRaftAsync(_ => PromoteWhenReady(ask.Node));
            return new Answer(AskReply.Pending, "");
        }

        if (Find(ask.First) is not 0 and var other && other != ask.Node)
        {
            return Answer.Refused(
                $"{ask.First} is the address of the member {other:x16}; remove that one first (RAFT SERVER REMOVE {other:x16})");
        }

        if (!await OnRaftAsync(core => core.MayChange))
        {
            return new Answer(AskReply.Pending, "");
        }

        // A member that has moved is believed: it asks, and its vote is where it was. A node that comes must be where it says.
        if (!members.Contains(ask.Node) && await WhyNotReachedAsync(ask) is { } reason)
        {
            return new Answer(AskReply.Pending, reason);
        }

        var kind = members.IsVoter(ask.Node) ? MembershipChangeKind.AddVoter : MembershipChangeKind.AddLearner;
        var done = new TaskCompletionSource<AdminOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        _mailbox.Post(() => _driver.Change(
            new ConfigurationChange(ChangeTransition.Auto, [new NodeChange(kind, ask.Node, ask.First)]), done));
        _ = await done.Task.WaitAsync(_end);
        return new Answer(AskReply.Pending, "");
    }

    /// <summary>Whether a node is a member now; null: not known. What is applied is in force a moment later.</summary>
    private async Task<bool?> IsMemberAsync(ulong node)
    {
        var barrier = await ReadBarrierAsync(ReadLevel.Linearizable);
        return barrier.Ok
            ? await WhenAsync(core => core.Applied >= barrier.AppliedIndex ? core.Membership : null, InviteTimeout) is { } members
                ? members.Contains(node)
                : null
            : null;
    }

    private async Task<string?> WhyNotReachedAsync(ClusterAsk ask)
    {
        // Nobody else: who waits to be added elsewhere would take the invitation for its own.
        var toVote = ((AskOptions)ask.Option).HasFlag(AskOptions.ToVote);
        var (answer, _) = await InviteAsync(ask.First, toVote, expected: ask.Node);
        return answer.Reply == AskReply.Done ? null : answer.Text + " (is its --advertise right?)";
    }

    /// <summary>Before this node stops: a leader of others hands over, as far as a few seconds allow.</summary>
    public async ValueTask HandOverAsync()
    {
        var until = Now() + (long)LeaveTimeout.TotalNanoseconds;
        if (_driver is not { IsAlone: false } driver || _core!.Role != CoreRole.Leader || _stopping
            || !await OnRaftAsync(_ => driver.TransferTo(null)))
        {
            return;
        }

        // Given up by the core when nobody takes over: the others are gone already.
        while (_core.Role == CoreRole.Leader && _core.TransferTarget != 0 && Now() < until)
        {
            await Task.Delay(5);
        }
    }

    /// <summary>What was proposed is answered, as far as a few seconds allow.</summary>
    private async Task FinishAsync()
    {
        var until = Now() + (long)LeaveTimeout.TotalNanoseconds;
        while ((_outstanding.Count > 0 || _mailbox.BatchCount > 0) && _driver is { View.Leader: not 0 }
            && Volatile.Read(ref _failed) == 0 && Now() < until)
        {
            await Task.Delay(2);
        }
    }

    private sealed class Sink(RaftEngine engine) : MailboxSink(engine._mailbox), IPeerSink
    {
        public void OnDelivered() => engine.TakeTurnsHere();

        public async ValueTask<ControlReply> OnControlAsync(ControlRequest request, CancellationToken cancellation)
        {
            var answer = await engine.OnControlAsync(request);
            return new ControlReply((byte)answer.Reply, Encoding.UTF8.GetBytes(answer.Text));
        }

        public ISnapshotReceiver? OnSnapshotOffer(ulong from, SnapshotOffer offer) => engine._transfers!.Offer(from, offer);
    }

    private async Task<Answer> OnControlAsync(ControlRequest request)
    {
        if (!ClusterAsk.TryRead(request, out var ask))
        {
            return Answer.Refused("this program does not know what was asked");
        }

        if (ask.Kind == AskKind.Invite)
        {
            return OnInvitation(ask);
        }

        return request.IsMember || ask.Kind == AskKind.Join
            ? await AnswerAsync(ask)
            : Answer.Refused("only members may ask this");
    }
}

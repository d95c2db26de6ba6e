using System.Globalization;
using System.Text;
using KvNode.Raft.Core;
using KvNode.Raft.Transport;

namespace KvNode.Raft.Engine;

// Changes of the cluster asked for by people and by nodes: on the leader at once, elsewhere by asking the leader. What is
// said to people about why not is said here.
public sealed partial class RaftEngine
{
    private static readonly TimeSpan AskTimeout = TimeSpan.FromSeconds(20);
    private static readonly TimeSpan InviteTimeout = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan CatchUpTimeout = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan AnswerTimeoutMin = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LookAgain = TimeSpan.FromMilliseconds(10);

    /// <summary>An answer, and what there is to say about it.</summary>
    internal readonly record struct Answer(AskReply Reply, string Text)
    {
        public static Answer Done(string text) => new(AskReply.Done, text);

        public static Answer Refused(string reason) => new(AskReply.Refused, reason);

        public AdminOutcome ToOutcome() => Reply switch
        {
            AskReply.Done => new AdminOutcome(true, Text),
            AskReply.AskLeader => new AdminOutcome(false, "leader not known"),
            _ => new AdminOutcome(false, Text),
        };
    }

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> ChangeMembershipAsync(MembershipChange change) =>
        AskLeaderAsync(new ClusterAsk(AskKind.Change, (byte)change.Kind, change.NodeId, change.Address));

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> ReplaceMemberAsync(string member, string address) =>
        AskLeaderAsync(new ClusterAsk(AskKind.Replace, 0, 0, member, address));

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> TransferLeadershipAsync(string? target) =>
        AskLeaderAsync(new ClusterAsk(AskKind.Transfer, 0, 0, target ?? ""));

    private async ValueTask<AdminOutcome> AskLeaderAsync(ClusterAsk ask)
    {
        if (_driver is null || _links is null || _stopping)
        {
            return new AdminOutcome(false, "the node is not running");
        }

        if (IsRemoved)
        {
            return new AdminOutcome(false, RemovedReason);
        }

        // As long as a write would wait for one.
        var until = Now() + (long)_options.LeaderWait.TotalNanoseconds;
        while (true)
        {
            _ = await WhenAsync(static core => core.Leader != 0 ? "" : null, TimeSpan.FromTicks((until - Now()) / 100));
            var (answer, isFinal) = await AskOnceAsync(ask);
            if (isFinal || Now() > until)
            {
                return answer.ToOutcome();
            }

            await Task.Delay(JoinPause, _end);
        }
    }

    /// <summary>Not final: certainly nothing was done, because whoever led does not, or cannot be reached.</summary>
    private async Task<(Answer Answer, bool IsFinal)> AskOnceAsync(ClusterAsk ask)
    {
        var answer = await AnswerAsync(ask);
        if (answer is not { Reply: AskReply.AskLeader, Text: { Length: > 0 } leader })
        {
            return (answer, answer.Reply != AskReply.AskLeader);
        }

        try
        {
            using var timeout = new CancellationTokenSource(AskTimeout);
            var reply = await _links!.AskAsync(leader, ask.ToRequest(_core!.NodeId, isMember: true), timeout.Token);
            answer = new Answer((AskReply)reply.Status, Encoding.UTF8.GetString(reply.Body.Span));
            return (answer, answer.Reply != AskReply.AskLeader);
        }
        catch (TransportException e) when (!e.MayHaveArrived)
        {
            return (Answer.Refused($"the leader at {leader} cannot be reached: {e.Message}"), false);
        }
        catch (Exception e) when (e is TransportException or OperationCanceledException)
        {
            return (Answer.Refused($"the leader at {leader} did not answer, the change may have been made: {e.Message}"), true);
        }
    }

    /// <summary>As the leader, or with its address. Any thread.</summary>
    private async Task<Answer> AnswerAsync(ClusterAsk ask)
    {
        if (await OnRaftAsync(core => core.Role == CoreRole.Leader ? null : AddressOf(core.Leader) ?? "") is { } elsewhere)
        {
            return new Answer(AskReply.AskLeader, elsewhere);
        }

        return ask.Kind switch
        {
            AskKind.Join => await JoinAsync(ask),
            AskKind.Change => await ChangeAsync((MembershipChangeKind)ask.Option, ask.Node, ask.First),
            AskKind.Replace => await ReplaceAsync(ask.First, ask.Second),
            AskKind.Transfer => await TransferAsync(ask.First),
            _ => Answer.Refused("this program does not know what was asked"),
        };
    }

    /// <summary>Asks the core something, on its thread.</summary>
    private async Task<T> OnRaftAsync<T>(Func<RaftCore, T> question)
    {
        var answer = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        _mailbox.Post(() => answer.TrySetResult(question(_core!)));
        return await answer.Task.WaitAsync(_end);
    }

    /// <summary>Asks again and again, until there is an answer or time is up; then null.</summary>
    private async Task<T?> WhenAsync<T>(Func<RaftCore, T?> question, TimeSpan patience)
        where T : class
    {
        var until = Now() + (long)patience.TotalNanoseconds;
        while (true)
        {
            if (await OnRaftAsync(question) is { } answer)
            {
                return answer;
            }

            if (Now() > until)
            {
                return null;
            }

            await Task.Delay(LookAgain, _end);
        }
    }

    private async Task<Answer> ChangeAsync(MembershipChangeKind kind, ulong node, string address)
    {
        if (kind is MembershipChangeKind.AddLearner or MembershipChangeKind.AddVoter && node == 0)
        {
            return await AddAsync(address, kind == MembershipChangeKind.AddVoter);
        }

        var member = node != 0 ? node : Find(address);
        if (!_driver!.Membership.Contains(member))
        {
            return Answer.Refused("peer is unknown");
        }

        return kind switch
        {
            MembershipChangeKind.Promote => await PromoteAsync(member),
            MembershipChangeKind.Demote or MembershipChangeKind.Remove =>
                await ProposeAsync(new NodeChange(kind, member, "")),
            _ => Answer.Refused("a member cannot be added"),
        };
    }

    /// <summary>The member that a person means by an id (16 hexadecimal digits) or an address; 0 for none.</summary>
    private ulong Find(string member)
    {
        foreach (var (id, address) in _driver!.Membership.Addresses)
        {
            if (address == member)
            {
                return id;
            }
        }

        return ulong.TryParse(member, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var named)
            && _driver.Membership.Contains(named) ? named : 0;
    }

    private async Task<Answer> AddAsync(string address, bool toVote)
    {
        if (Find(address) != 0)
        {
            return Answer.Refused("peer already known");
        }

        var (answer, node) = await InviteAsync(address, toVote);
        if (answer.Reply != AskReply.Done)
        {
            return answer;
        }

        if (_driver!.Membership.Contains(node))
        {
            return Answer.Refused($"the node at {address} is a member already, {node:x16}");
        }

        answer = await ProposeAsync(new NodeChange(MembershipChangeKind.AddLearner, node, address));
        // The node asks too, and may have been the first.
        if (answer.Reply != AskReply.Done && !_driver.Membership.Contains(node))
        {
            return answer;
        }

        if (toVote)
        {
            _ = await OnRaftAsync(_ => PromoteWhenReady(node));
        }

        return Answer.Done($"{node:x16}");
    }

    /// <summary>Asks an empty node to belong to this cluster, and who it is. One that cannot be reached is never added, so
    /// it can cost no majority.</summary>
    /// <param name="expected">Only this node is asked; 0: whoever is there.</param>
    private async Task<(Answer Answer, ulong Node)> InviteAsync(string address, bool toVote, ulong expected = 0)
    {
        var option = toVote ? AskOptions.ToVote : AskOptions.None;
        var invitation = new ClusterAsk(AskKind.Invite, (byte)option, _identity!.ClusterId, _options.Address);
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(_end);
        timeout.CancelAfter(InviteTimeout);
        try
        {
            var reply = await _links!.AskAsync(
                address, invitation.ToRequest(_core!.NodeId, isMember: true), timeout.Token, expected);
            var answer = new Answer((AskReply)reply.Status, Encoding.UTF8.GetString(reply.Body.Span));
            if (answer.Reply != AskReply.Removed)
            {
                return (answer, reply.From);
            }

            // It has been a member, and cannot know whether it still is one. This leader may not have applied yet that it is.
            return (await IsMemberAsync(reply.From) switch
            {
                true => Answer.Done(""),
                false => Answer.Refused(answer.Text),
                null => Answer.Refused("this leader does not know whether the node is a member"),
            }, reply.From);
        }
        catch (TransportException e) when (e.InnerException is PeerRefusedException { Refusal: PeerRefusal.Cluster })
        {
            return (Answer.Refused(
                $"the node at {address} is in a cluster of its own; start it on an empty directory with --join wait"), 0);
        }
        catch (TransportException e)
        {
            return (Answer.Refused($"no node can be added from {address}: {e.Message}"), 0);
        }
        catch (OperationCanceledException)
        {
            _end.ThrowIfCancellationRequested();
            return (Answer.Refused(
                $"no node can be added from {address}: nothing answered within {InviteTimeout.TotalSeconds:0} seconds; is it a kvnode?"), 0);
        }
    }

    private bool PromoteWhenReady(ulong node)
    {
        _driver!.PromoteWhenReady(node);
        return true;
    }

    private async Task<Answer> PromoteAsync(ulong node)
    {
        if (_driver!.Membership.IsVoter(node))
        {
            return Answer.Done("it is a voter");
        }

        if (await WhyNotRestOnAsync(node, "be made a voter") is { } silent)
        {
            return silent;
        }

        // It asks from now on itself, for this leader may not last as long as the catching up.
        _ = await InviteAsync(AddressOf(node) ?? "", toVote: true);
        var promoted = await WhenAsync(
            core => core.Membership.IsVoter(node) || !PromoteWhenReady(node) ? "" : null, CatchUpTimeout);
        return promoted is not null
            ? Answer.Done("it is a voter")
            : Answer.Refused("the node is still catching up; it becomes a voter when it has caught up");
    }

    /// <summary>Null: the member answers when it is asked now, and this node leads. What it said a moment ago it may have said
    /// before it died.</summary>
    private async Task<Answer?> WhyNotRestOnAsync(ulong node, string role)
    {
        var question = await OnRaftAsync(core => core.AskPeers());
        var answered = await WhenAsync(
            core => core.Role != CoreRole.Leader || HasAnswered(core, node, question) ? "" : null, AnswerTimeout);
        // Not leading any more: nothing was done, and another leader is asked.
        return answered is null ? Answer.Refused($"the node does not answer: it cannot {role}")
            : _core!.Role != CoreRole.Leader ? new Answer(AskReply.AskLeader, "")
            : null;
    }

    /// <summary>A slow way, or a slow disk before the answer, is no death.</summary>
    private TimeSpan AnswerTimeout => _options.ElectionTimeout > AnswerTimeoutMin ? _options.ElectionTimeout : AnswerTimeoutMin;

    private static bool HasAnswered(RaftCore core, ulong node, ulong question) =>
        node == core.NodeId || core.Peers.Any(peer => peer.Id == node && peer.EchoedRound >= question);

    private async Task<Answer> ReplaceAsync(string member, string address)
    {
        var leaving = Find(member);
        if (leaving == 0)
        {
            return Answer.Refused("peer is unknown");
        }

        var coming = Find(address);
        if (coming == leaving)
        {
            return Answer.Refused("a member cannot take its own place");
        }

        if (coming == 0)
        {
            var (invited, node) = await InviteAsync(address, toVote: false);
            coming = node;
            if (invited.Reply == AskReply.Done && !_driver!.Membership.Contains(node))
            {
                invited = await ProposeAsync(new NodeChange(MembershipChangeKind.AddLearner, node, address));
            }

            if (invited.Reply != AskReply.Done)
            {
                return invited;
            }
        }

        if (_driver!.Membership.IsVoter(coming))
        {
            return Answer.Refused($"the node at {address} is a voter already; to remove {member}, use RAFT SERVER REMOVE");
        }

        // Until then the old member keeps its place, and with it the cluster its strength.
        var caughtUp = await WhenAsync(
            core => core.Peers.Any(peer => peer.Id == coming && peer.State == PeerState.Replicate && peer.Match >= core.Commit)
                || core.NodeId == coming || core.Role != CoreRole.Leader ? "" : null,
            CatchUpTimeout);
        return caughtUp is null
            ? Answer.Refused($"the node at {address} learns and has not caught up yet; ask again to go on")
            : await ProposeAsync(
                new NodeChange(MembershipChangeKind.Promote, coming, ""), new NodeChange(MembershipChangeKind.Remove, leaving, ""));
    }

    private async Task<Answer> TransferAsync(string target)
    {
        var node = target.Length == 0 ? 0 : Find(target);
        if (target.Length > 0 && !_driver!.Membership.IsVoter(node))
        {
            return Answer.Refused(node == 0 ? "peer is unknown" : "the node has no vote: it cannot lead");
        }

        if (node == _core!.NodeId)
        {
            return Answer.Done("it leads already");
        }

        if (node != 0 && await WhyNotRestOnAsync(node, "lead") is { } silent)
        {
            return silent;
        }

        if (!await OnRaftAsync(_ => _driver!.TransferTo(node == 0 ? null : node)))
        {
            return Answer.Refused("there is no other voter that could lead");
        }

        var over = await WhenAsync(
            core => core.Role != CoreRole.Leader ? "" : core.TransferTarget == 0 ? "the node did not take over in time" : null,
            _options.ElectionTimeout * 3);
        return over is "" ? Answer.Done("handed over") : Answer.Refused(over ?? "the node did not take over in time");
    }

    /// <summary>Carries a change through, unless the voters there would be then cannot be trusted to go on.</summary>
    private async Task<Answer> ProposeAsync(params NodeChange[] parts)
    {
        var change = new ConfigurationChange(ChangeTransition.Auto, parts);
        // Another change, or a promotion, may be under way: that is over soon.
        _ = await WhenAsync(core => core.MayChange || core.Role != CoreRole.Leader ? "" : null, InviteTimeout);
        if (parts[0].Kind != MembershipChangeKind.AddLearner && await DangerAsync(change) is { } danger)
        {
            return Answer.Refused(danger);
        }

        var done = new TaskCompletionSource<AdminOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        _mailbox.Post(() => _driver!.Change(change, done));
        var outcome = await done.Task.WaitAsync(_end);
        return new Answer(outcome.Ok ? AskReply.Done : AskReply.Refused, outcome.Detail);
    }

    private async Task<string?> DangerAsync(ConfigurationChange change)
    {
        string? danger = null;
        var question = await OnRaftAsync(core => core.AskPeers());
        _ = await WhenAsync(
            core => (danger = Danger(core, change, question)) is null ? "" : null, AnswerTimeout);
        return danger;
    }

    private static string? Danger(RaftCore core, ConfigurationChange change, ulong question)
    {
        var after = core.Membership.TryApply(change, out var refusal);
        if (after is null || core.Role != CoreRole.Leader)
        {
            // Said by the core itself, if it is still so then.
            return after is null && core.MayChange ? refusal : null;
        }

        var heard = 0;
        foreach (var voter in after.Voters)
        {
            heard += HasAnswered(core, voter, question) ? 1 : 0;
        }

        return heard > after.Voters.Count / 2
            ? null
            : $"of the {after.Voters.Count} voters there would be only {heard} answer: the cluster could not go on";
    }
}

using System.Buffers.Binary;
using System.Text;
using KvNode.Raft.Core;
using KvNode.Raft.Transport;

namespace KvNode.Raft.Engine;

// Joining, leaving, and changes asked for by people: on the leader at once, elsewhere by asking the leader.
public sealed partial class RaftEngine
{
    private static readonly TimeSpan JoinPause = TimeSpan.FromMilliseconds(200);
    private static readonly TimeSpan JoinPauseMax = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan AskTimeout = TimeSpan.FromSeconds(10);
    private static readonly TimeSpan LeaveTimeout = TimeSpan.FromSeconds(5);

    // What a ControlRequest asks. ON THE WIRE.
    private enum Ask : byte
    {
        /// <summary>u64 node id, address: make me a voter, at this address.</summary>
        Join = 1,

        /// <summary>u8 kind, u64 node id, address.</summary>
        Change = 2,

        /// <summary>u64 target, 0 for any.</summary>
        Transfer = 3,
    }

    // How it was answered. ON THE WIRE.
    private enum Reply : byte
    {
        Done = 1,

        /// <summary>The body is the leader's address, empty when unknown.</summary>
        AskLeader = 2,

        /// <summary>The body says why.</summary>
        Refused = 3,

        /// <summary>Under way: ask again.</summary>
        Pending = 4,

        /// <summary>The leader knows that this node was removed.</summary>
        Removed = 5,
    }

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> ChangeMembershipAsync(MembershipChange change)
    {
        var address = Encoding.UTF8.GetBytes(change.Address ?? "");
        var body = new byte[9 + address.Length];
        body[0] = (byte)change.Kind;
        BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(1), change.NodeId);
        address.CopyTo(body, 9);
        return AskLeaderAsync(Ask.Change, body);
    }

    /// <inheritdoc/>
    public ValueTask<AdminOutcome> TransferLeadershipAsync(ulong? target)
    {
        var body = new byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(body, target ?? 0);
        return AskLeaderAsync(Ask.Transfer, body);
    }

    private async ValueTask<AdminOutcome> AskLeaderAsync(Ask kind, byte[] body)
    {
        if (_driver is null || _links is null)
        {
            return new AdminOutcome(false, "the node is not running");
        }

        var request = new ControlRequest((byte)kind, body, _core!.NodeId, IsMember: true);
        var (reply, text) = await AnswerAsync(request);
        if (reply == Reply.AskLeader && text.Length > 0)
        {
            try
            {
                using var timeout = new CancellationTokenSource(AskTimeout);
                var answer = await _links.AskAsync(text, request, timeout.Token);
                (reply, text) = ((Reply)answer.Status, Encoding.UTF8.GetString(answer.Body.Span));
            }
            catch (Exception e) when (e is TransportException or OperationCanceledException)
            {
                return new AdminOutcome(false, $"the leader at {text} does not answer: {e.Message}");
            }
        }

        return reply switch
        {
            Reply.Done => new AdminOutcome(true, text),
            Reply.AskLeader => new AdminOutcome(false, "leader not known"),
            _ => new AdminOutcome(false, text),
        };
    }

    private async Task<(Reply Reply, string Text)> AnswerAsync(ControlRequest request)
    {
        var done = new TaskCompletionSource<(Reply, AdminOutcome)>(TaskCreationOptions.RunContinuationsAsynchronously);
        _mailbox.Post(() => Answer(request, done));
        var (reply, outcome) = await done.Task;
        return (reply, outcome.Detail);
    }

    // Raft thread.
    private void Answer(ControlRequest request, TaskCompletionSource<(Reply, AdminOutcome)> done)
    {
        var core = _core!;
        if (core.Role != CoreRole.Leader)
        {
            done.SetResult((Reply.AskLeader, new AdminOutcome(false, AddressOf(core.Leader) ?? "")));
            return;
        }

        var body = request.Body.Span;
        switch ((Ask)request.Kind)
        {
            case Ask.Join when body.Length > 8:
                Join(BinaryPrimitives.ReadUInt64LittleEndian(body), Encoding.UTF8.GetString(body[8..]), done);
                break;
            case Ask.Change when body.Length >= 9 && request.IsMember:
                Change(new NodeChange(
                    (MembershipChangeKind)body[0],
                    BinaryPrimitives.ReadUInt64LittleEndian(body[1..]),
                    Encoding.UTF8.GetString(body[9..])), done);
                break;
            case Ask.Transfer when body.Length == 8 && request.IsMember:
                var target = BinaryPrimitives.ReadUInt64LittleEndian(body);
                var begun = _driver!.TransferTo(target == 0 ? null : target);
                done.SetResult(begun
                    ? (Reply.Done, new AdminOutcome(true, "OK"))
                    : (Reply.Refused, new AdminOutcome(false, "there is no such voter that could lead")));
                break;
            default:
                done.SetResult((Reply.Refused, new AdminOutcome(false, "this program does not know what was asked")));
                break;
        }
    }

    // Asked again and again by the joining node: each time the next step that is missing.
    private void Join(ulong node, string address, TaskCompletionSource<(Reply, AdminOutcome)> done)
    {
        var members = _core!.Membership;
        if (members.Addresses.TryGetValue(node, out var known) && known == address)
        {
            if (!members.IsVoter(node))
            {
                _driver!.PromoteWhenReady(node);
            }

            done.SetResult((members.IsVoter(node) ? Reply.Done : Reply.Pending, new AdminOutcome(true, "")));
            return;
        }

        foreach (var (other, at) in members.Addresses)
        {
            if (at == address && other != node)
            {
                done.SetResult((Reply.Refused, new AdminOutcome(
                    false, $"{address} is the address of another member; remove that one first")));
                return;
            }
        }

        var kind = members.IsVoter(node) ? MembershipChangeKind.AddVoter : MembershipChangeKind.AddLearner;
        Change(new NodeChange(kind, node, address), done, Reply.Pending);
    }

    private void Change(
        NodeChange change, TaskCompletionSource<(Reply, AdminOutcome)> done, Reply success = Reply.Done)
    {
        var outcome = new TaskCompletionSource<AdminOutcome>(TaskCreationOptions.RunContinuationsAsynchronously);
        _driver!.Change(new ConfigurationChange(ChangeTransition.Auto, [change]), outcome);
        _ = ReportAsync();

        async Task ReportAsync()
        {
            var result = await outcome.Task;
            done.SetResult((result.Ok ? success : Reply.Refused, result));
        }
    }

    /// <summary>
    /// Until this node is a voter at its present address: asks to be. A node that joins asks whom it was told to, and
    /// whoever leads; one that came back at another address asks the members that it knows.
    /// </summary>
    private async Task KeepMembershipAsync()
    {
        var pause = JoinPause;
        var target = _options.Join;
        try
        {
            while (!_ending.IsCancellationRequested && !IsSettled())
            {
                await Task.Delay(pause, _ending.Token);
                pause = TimeSpan.FromTicks(Math.Min(pause.Ticks * 2, JoinPauseMax.Ticks));
                target = await AskToJoinAsync(target) ?? _options.Join ?? AddressOf(_core!.Leader);
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

    private bool IsSettled()
    {
        var members = _driver!.Membership;
        var id = _identity!.NodeId;
        return (_options.Join is null || members.Contains(id))
            && (!members.Contains(id) || members.Addresses[id] == _options.Address)
            && (members.IsVoter(id) || !_joining);
    }

    /// <returns>Whom to ask next.</returns>
    private async Task<string?> AskToJoinAsync(string? target)
    {
        var address = Encoding.UTF8.GetBytes(_options.Address);
        var body = new byte[8 + address.Length];
        BinaryPrimitives.WriteUInt64LittleEndian(body, _core!.NodeId);
        address.CopyTo(body, 8);
        var request = new ControlRequest((byte)Ask.Join, body, _core.NodeId, _identity!.ClusterId != 0);
        if (_core.Role == CoreRole.Leader)
        {
            _ = await AnswerAsync(request);
            return null;
        }

        if (target is null)
        {
            return null;
        }

        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(_ending.Token);
        timeout.CancelAfter(AskTimeout);
        try
        {
            var reply = await _links!.AskAsync(target, request, timeout.Token);
            if (_identity.ClusterId == 0 && (Reply)reply.Status is Reply.Pending or Reply.Done)
            {
                _identity.SetCluster(reply.ClusterId);
                _links.SetCluster(reply.ClusterId);
            }

            return (Reply)reply.Status == Reply.AskLeader ? Encoding.UTF8.GetString(reply.Body.Span) : target;
        }
        catch (TransportException)
        {
            return null;
        }
    }

    /// <summary>Before this node stops: a leader of others hands over, as far as a few seconds allow.</summary>
    public async ValueTask HandOverAsync()
    {
        var until = Now() + (long)LeaveTimeout.TotalNanoseconds;
        if (_driver is { IsAlone: false } driver && _core!.Role == CoreRole.Leader)
        {
            _mailbox.Post(() => driver.TransferTo(null));
            while (_core.Role == CoreRole.Leader && Now() < until)
            {
                await Task.Delay(5);
            }
        }
    }

    private async Task FinishAsync()
    {
        var until = Now() + (long)LeaveTimeout.TotalNanoseconds;
        while ((_outstanding.Count > 0 || _mailbox.BatchCount > 0) && Volatile.Read(ref _failed) == 0 && Now() < until)
        {
            await Task.Delay(2);
        }
    }

    private sealed class Sink(RaftEngine engine) : MailboxSink(engine._mailbox), IPeerSink
    {
        public async ValueTask<ControlReply> OnControlAsync(ControlRequest request, CancellationToken cancellation)
        {
            var (reply, text) = await engine.AnswerAsync(request);
            return new ControlReply((byte)reply, Encoding.UTF8.GetBytes(text));
        }

        public ISnapshotReceiver? OnSnapshotOffer(ulong from, SnapshotOffer offer) => engine._transfers!.Offer(from, offer);
    }
}

using KvNode.Raft.Core;
using KvNode.Raft.Engine;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>What a leader says, and when: one driver of three voters, turned by hand, whose peers are played by the test.</summary>
public sealed class DriverLeaderTests : IDisposable
{
    private const long Millisecond = 1_000_000;
    private static readonly EntryId Position = new(1, 5);

    private readonly Mailbox _mailbox = new();
    private readonly OutstandingBatches _outstanding = new();
    private readonly FakeMachine _machine = new(Position);
    private readonly WriteAheadLog _log = WriteAheadLog.Open(new SimDisk(), WalRig.SmallSegments, newLogId: 1);
    private readonly PersistStage _persist;
    private readonly ApplyStage _apply;
    private readonly RaftCore _core;
    private readonly RaftDriver _driver;
    private readonly List<Message> _sent = [];
    private readonly List<(ulong Node, ulong Incarnation, ulong Sequence, string? Why)> _refused = [];
    private Action<Message> _onSend = static _ => { };
    private bool _applies = true;
    private ulong _round;
    private long _now;

    public DriverLeaderTests()
    {
        var start = new NodeStart(1, 3);
        _log.Append([WalRecord.Of(new HardState(1, 0)), WalRecord.SnapshotMarker(Position)]);
        _persist = new PersistStage(_log, new PersistOptions(), sequence => _mailbox.Post(EventKind.Persisted, sequence));
        _apply = new ApplyStage(
            _machine, _outstanding, EngineState.Decode(default), Position.Index, start, index => _mailbox.Post(EventKind.Applied, index));
        _core = new RaftCore(
            new CoreOptions { NodeId = 1, ElectionTicks = 50, HeartbeatTicks = 5, LeaseNanoseconds = 800 * Millisecond },
            EngineStart.State(_log, Position.Index, Membership.OfVoters((1UL, "a"), (2UL, "b"), (3UL, "c"))));
        _driver = new RaftDriver(
            new DriverOptions { ApplyInline = false },
            new DriverParts
            {
                Start = start,
                Core = _core,
                Log = _log,
                Machine = _machine,
                Mailbox = _mailbox,
                Outstanding = _outstanding,
                Persist = _persist,
                Apply = _apply,
                Links = new NoPeers
                {
                    OnSend = Hears,
                    OnRefused = (node, incarnation, sequence, why) => _refused.Add((node, incarnation, sequence, why)),
                },
                Fetcher = new NothingBehind(),
                Snapshots = new NothingBehind(),
                LeaderChanged = static (_, _) => { },
            },
            _now);
    }

    public void Dispose() => _log.Dispose();

    /// <summary>A peer that hears of a commit applies it and answers its clients: from then on this node's own lease must
    /// not let it answer from before.</summary>
    [Fact]
    public void WhatAMessageTellsIsPublishedBeforeItLeaves()
    {
        Lead();
        Assert.True(_now < _driver.View.LeaseEnd);
        var commits = 0;
        _onSend = message =>
        {
            commits += message.Type == MessageType.Append && message.Commit > Position.Index + 1 ? 1 : 0;
            Assert.True(message.Commit <= _driver.View.Commit, $"commit {message.Commit} leaves, {_driver.View.Commit} is published");
            Assert.False(message.Type == MessageType.TimeoutNow && _now < _driver.View.LeaseEnd, "another may lead, and the lease stands");
        };
        Assert.True(_mailbox.TryPropose(new TestBatch(7)));
        Turn(1);
        AckAll();
        Assert.NotEqual(0, commits);
        Assert.True(_driver.TransferTo(2));
        Turn(1);
        Assert.Contains(_sent, static message => message.Type == MessageType.TimeoutNow);
    }

    /// <summary>Those who left have acknowledged what this node has yet to apply.</summary>
    [Fact]
    public void WhoBecomesTheWholeClusterAnswersAloneOnlyWhenAllBeforeIsApplied()
    {
        Lead();
        _applies = false;
        Change(MembershipChangeKind.Remove, 3);
        Assert.True(_mailbox.TryPropose(new TestBatch(7)));
        Turn(1);
        AckAll();
        ApplyThrough(_core.Commit);
        AckAll();
        ApplyThrough(_core.Commit);
        AckAll();
        Assert.True(_core.MayChange);

        // One more leaves, and an entry after that change is agreed on while both still count.
        Change(MembershipChangeKind.Remove, 2);
        var change = _core.Log.Last.Index;
        Assert.True(_mailbox.TryPropose(new TestBatch(8)));
        Turn(1);
        AckAll();
        Assert.True(_core.Commit > change, $"{_core.Commit} is committed");
        ApplyThrough(change);
        Assert.True(_driver.IsAlone);
        Assert.False(_driver.View.ServesAlone, $"applied {_apply.AppliedIndex}, committed {_core.Commit}");
        _applies = true;
        Turn(1);
        Assert.True(_driver.View.ServesAlone);
    }

    [Fact]
    public void AVoterThatWasToBePromotedIsNotPromotedAgainAfterItsDemotion()
    {
        Lead();
        _driver.PromoteWhenReady(3);
        Turn(20);
        AckAll();
        Change(MembershipChangeKind.Demote, 3);
        Turn(1);
        for (var i = 0; i < 100; i++)
        {
            AckAll();
            Turn(20);
        }

        Assert.Equal([3UL], _core.Membership.Learners);
        _driver.PromoteWhenReady(3);
        for (var i = 0; i < 10; i++)
        {
            Turn(20);
            AckAll();
        }

        Assert.True(_core.Membership.IsVoter(3));
    }

    [Fact]
    public void ABatchThatCannotBeAppliedIsRefusedToTheStartItIsFrom()
    {
        Lead();
        _machine.Flaw = "not a batch";
        var last = _core.Log.Last.Index;
        _mailbox.Post(new Event { Kind = EventKind.Forward, A = 2, B = 9, C = 4, D = _core.Term, Payload = "garbage"u8.ToArray() });
        Turn(1);
        Assert.Equal([(2UL, 9UL, 4UL, "not a batch")], _refused);
        Assert.Equal(last, _core.Log.Last.Index);
    }

    [Fact]
    public async Task ARefusalToAnEarlierStartOfThisNodeRefusesNothing()
    {
        var batch = new TestBatch(7);
        Lead();
        Assert.True(_mailbox.TryPropose(batch));
        Turn(1);
        _mailbox.Post(new Event { Kind = EventKind.ForwardRefused, A = 2, B = 1, C = 2, State = "an earlier start's" });
        Turn(1);
        Assert.False(batch.Outcome.IsCompleted);
        AckAll();
        Assert.Equal(ProposalStatus.Committed, (await batch.Outcome.WaitAsync(TimeSpan.FromSeconds(60))).Status);
    }

    /// <summary>The node stood still for a while, answers its leader, and the leader counts on its silence from then on: the time
    /// before is no part of it.</summary>
    [Fact]
    public void WhoHasJustHeardItsLeaderDoesNotCountTheTimeBefore()
    {
        for (var pause = 100; pause <= 500; pause += 20)
        {
            using var node = new DriverLeaderTests();
            node.Says(new Message { Type = MessageType.Heartbeat, From = 2, Term = 2 });
            node.Turn(20);
            node.Says(new Message { Type = MessageType.Heartbeat, From = 2, Term = 2 });
            node.Turn(pause);
            var heard = node._now;
            while (!node._sent.Exists(static message => message is { Type: MessageType.PreVoteResponse, Reject: false }))
            {
                node.Says(new Message { Type = MessageType.PreVote, From = 3, Term = 3, Entry = new EntryId(2, 99) });
                node.Turn(20);
            }

            // 50 ticks of 20 ms; one may count at once.
            var silence = (node._now - heard) / Millisecond;
            Assert.True(silence >= 980, $"after a pause of {pause} ms it lets another one lead in {silence} ms");
        }
    }

    private void Lead()
    {
        while (_core.Role == CoreRole.Follower)
        {
            Turn(20);
        }

        Says(new Message { Type = MessageType.PreVoteResponse, From = 2, Term = _core.Term + 1 });
        Turn(20);
        Says(new Message { Type = MessageType.VoteResponse, From = 2 });
        Turn(20);
        Assert.Equal(CoreRole.Leader, _core.Role);
        for (var i = 0; i < 10; i++)
        {
            Turn(20);
            AckAll();
        }
    }

    private void Change(MembershipChangeKind kind, ulong node)
    {
        var done = new TaskCompletionSource<AdminOutcome>();
        _driver.Change(new ConfigurationChange(ChangeTransition.Auto, [new NodeChange(kind, node, "")]), done);
        Assert.False(done.Task.IsCompleted);
    }

    private void Turn(long milliseconds)
    {
        _now += milliseconds * Millisecond;
        _driver.Turn(_now);
        while (_persist.TryBegin())
        {
            Assert.True(_persist.TryFinish());
            _driver.Turn(_now);
        }

        while (_applies && _apply.RunOnce())
        {
            _driver.Turn(_now);
        }
    }

    /// <summary>The state machine is slow: this far, and no further.</summary>
    private void ApplyThrough(ulong index)
    {
        _mailbox.Post(EventKind.Applied, index);
        _driver.Turn(_now);
    }

    private void AckAll()
    {
        foreach (var from in (ulong[])[2, 3])
        {
            Says(new Message { Type = MessageType.AppendResponse, From = from, Entry = new EntryId(0, _core.Log.Last.Index), ReadRound = _round });
            Says(new Message { Type = MessageType.HeartbeatResponse, From = from, ReadRound = _round });
        }

        Turn(1);
    }

    private void Says(Message message) => _mailbox.Post(new Event
    {
        Kind = EventKind.Message,
        Message = message with { To = 1, Term = message.Term == 0 ? _core.Term : message.Term },
    });

    private void Hears(Message message)
    {
        _round = Math.Max(_round, message.ReadRound);
        _sent.Add(message);
        _onSend(message);
    }
}

using KvNode.Raft.Core;
using KvNode.Raft.Engine;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>Reads of a learner, also of one whose leader is one no more: one driver, turned by hand, with a network that answers at once.</summary>
public sealed class DriverReadTests : IDisposable
{
    private const ulong Leader = 2;
    private const ulong Successor = 3;
    private static readonly EntryId Position = new(1, 5);
    private static readonly DriverOptions Options = new();

    private readonly Mailbox _mailbox = new();
    private readonly List<ulong> _asked = [];
    private readonly OutstandingBatches _outstanding = new();
    private readonly WriteAheadLog _log;
    private readonly ApplyStage _apply;
    private readonly RaftDriver _driver;
    private readonly RaftCore _core;
    private ulong _answers;
    private long _now;

    public DriverReadTests()
    {
        var start = new NodeStart(1, 1);
        var machine = new FakeMachine(Position);
        _log = WriteAheadLog.Open(new SimDisk(), WalRig.SmallSegments, newLogId: 1);
        _log.Append([WalRecord.Of(new HardState(1, 0)), WalRecord.SnapshotMarker(Position)]);
        _apply = new ApplyStage(machine, _outstanding, EngineState.Decode(default), Position.Index, start, static _ => { });
        _core = new RaftCore(
            new CoreOptions { NodeId = 1, ElectionTicks = 50, HeartbeatTicks = 5 },
            EngineStart.State(_log, Position.Index, Members()));
        _driver = new RaftDriver(
            Options,
            new DriverParts
            {
                Start = start,
                Core = _core,
                Log = _log,
                Machine = machine,
                Mailbox = _mailbox,
                Outstanding = _outstanding,
                Persist = new PersistStage(_log, new PersistOptions(), static _ => { }),
                Apply = _apply,
                Links = new NoPeers { OnSend = Hears },
                Fetcher = new NothingBehind(),
                Snapshots = new NothingBehind(),
                LeaderChanged = static (_, _) => { },
            },
            _now);
    }

    public void Dispose() => _log.Dispose();

    [Fact]
    public async Task ALearnerAsksALeaderThatStoppedLeadingOnceATickUntilAnotherOneIsKnown()
    {
        Says(new Message { Type = MessageType.Heartbeat, From = Leader, Term = 1 });
        Turn();
        var read = new TestBatch([]);
        Assert.True(_mailbox.TryPropose(read));

        // Each answer comes at once and is an event that calls for a turn.
        var ticks = 0;
        for (var turn = 1; turn <= 1000; turn++)
        {
            var ends = turn % 100 == 0;
            _now += ends ? (long)Options.Tick.TotalNanoseconds : 0;
            ticks += ends ? 1 : 0;
            Turn();
        }

        Assert.Equal(Leader, _core.Leader);
        Assert.Equal(10, ticks);
        Assert.InRange(_asked.Count, 5, ticks + 1);
        Assert.All(_asked, static to => Assert.Equal(Leader, to));

        // A new leader is asked without waiting for the tick.
        _asked.Clear();
        _answers = Position.Index;
        Says(new Message { Type = MessageType.Heartbeat, From = Successor, Term = 2 });
        Turn();
        Assert.Equal([Successor], _asked);
        Turn();
        while (_apply.RunOnce())
        {
        }

        Assert.Equal(ProposalStatus.Committed, (await read.Outcome.WaitAsync(TimeSpan.FromSeconds(60))).Status);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ReadsThatTakeLongAreNotRunWithinATurn(bool isLong)
    {
        _answers = Position.Index;
        Says(new Message { Type = MessageType.Heartbeat, From = Leader, Term = 1 });
        Turn();
        var read = new TestBatch([]) { IsLong = isLong };
        Assert.True(_mailbox.TryPropose(read));
        for (var turn = 0; turn < 5; turn++)
        {
            Turn();
        }

        Assert.Equal(!isLong, read.Outcome.IsCompleted);
        Assert.Equal(isLong, _apply.RunOnce());
        Assert.True(read.Outcome.IsCompleted);
    }

    /// <summary>However many turns come before the thread does: what was left to it is not taken back.</summary>
    [Fact]
    public void WhatIsLeftToTheApplyThreadIsTheThreads()
    {
        _apply.HandOver([Entry(6)]);
        _apply.Wake();
        Assert.False(_apply.TryRunHere());
        _apply.HandOver([Entry(7)]);
        Assert.False(_apply.TryRunHere());
        Assert.False(_apply.TryRunHere([Entry(8)]));
        Assert.True(_apply.RunOnce());
        Assert.Equal(7ul, _apply.AppliedIndex);
        _apply.HandOver([Entry(8)]);
        Assert.True(_apply.TryRunHere());
        Assert.Equal(8ul, _apply.AppliedIndex);
    }

    private static LogEntry Entry(ulong index) => new(new EntryId(1, index), EntryKind.Empty, default);

    private static Membership Members()
    {
        var learns = new ConfigurationChange(
            ChangeTransition.Auto, [new NodeChange(MembershipChangeKind.AddLearner, 1, "a")]);
        var members = Membership.OfVoters((Leader, "b"), (Successor, "c")).TryApply(learns, out _);
        Assert.NotNull(members);
        return members;
    }

    private void Turn() => _driver.Turn(_now);

    private void Says(Message message) =>
        _mailbox.Post(new Event { Kind = EventKind.Message, Message = message with { To = 1 } });

    /// <summary>A question is answered in the next turn: refused, or with an index once there is one.</summary>
    private void Hears(Message message)
    {
        if (message.Type == MessageType.ReadIndex)
        {
            _asked.Add(message.To);
            Says(new Message
            {
                Type = MessageType.ReadIndexResponse,
                From = message.To,
                Term = _core.Term,
                Context = message.Context,
                Reject = _answers == 0,
                Entry = new EntryId(0, _answers),
            });
        }
    }
}

using KvNode.Raft.Core;
using KvNode.Raft.Engine;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>A follower whose disk takes nothing any more: one driver, turned by hand, and a leader that goes on without it.</summary>
public sealed class DriverFullDiskTests : IDisposable
{
    private const ulong Leader = 2;
    private static readonly EntryId Position = new(1, 5);
    private static readonly DriverOptions Options = new();

    private readonly Mailbox _mailbox = new();
    private readonly OutstandingBatches _outstanding = new();
    private readonly List<ulong> _forwarded = [];
    private readonly SimDisk _disk = new();
    private readonly WriteAheadLog _log;
    private readonly PersistStage _persist;
    private readonly ApplyStage _apply;
    private readonly RaftDriver _driver;
    private ulong _readIndex = Position.Index;
    private ulong _commit = Position.Index;
    private long _now;

    public DriverFullDiskTests()
    {
        var start = new NodeStart(1, 1);
        var machine = new FakeMachine(Position);
        _log = WriteAheadLog.Open(_disk, WalRig.SmallSegments, newLogId: 1);
        _log.Append([WalRecord.Of(new HardState(1, 0)), WalRecord.SnapshotMarker(Position)]);
        _persist = new PersistStage(
            _log, new PersistOptions(), sequence => _mailbox.Post(new Event { Kind = EventKind.Persisted, A = sequence }));
        _apply = new ApplyStage(
            machine, _outstanding, EngineState.Decode(default), Position.Index, start,
            index => _mailbox.Post(new Event { Kind = EventKind.Applied, A = index }));
        var members = Membership.OfVoters((1UL, "a"), (Leader, "b"), (3UL, "c"));
        _driver = new RaftDriver(
            Options,
            new DriverParts
            {
                Start = start,
                Core = new RaftCore(
                    new CoreOptions { NodeId = 1, ElectionTicks = 50, HeartbeatTicks = 5 },
                    EngineStart.State(_log, Position.Index, members)),
                Log = _log,
                Machine = machine,
                Mailbox = _mailbox,
                Outstanding = _outstanding,
                Persist = _persist,
                Apply = _apply,
                Links = new NoPeers { OnSend = Hears, OnForward = _forwarded.Add },
                Fetcher = new NothingBehind(),
                Snapshots = new NothingBehind(),
                LeaderChanged = static (_, _) => { },
            },
            _now);
        Says(new Message { Type = MessageType.Heartbeat, From = Leader, Term = 1 });
        Turn();
    }

    public void Dispose() => _log.Dispose();

    [Fact]
    public async Task WritesThatNobodyWasGivenAreRefusedAtOnceWithTheReason()
    {
        FillDisk();
        var write = Propose(1);
        Turn();
        var outcome = await Answered(write);
        Assert.Equal(ProposalStatus.Dropped, outcome.Status);
        Assert.Equal(_persist.Refusal, outcome.Reason);
        Assert.Empty(_forwarded);
    }

    [Fact]
    public async Task AWriteThatTheLeaderWasGivenIsAnsweredAsUnknownAfterTheWaitForALeader()
    {
        var given = Propose(1);
        Turn();
        Assert.Equal([1UL], _forwarded);
        Pass(Options.LeaderWait); // A healthy disk: the leader may take its time.
        FillDisk();
        var refused = Propose(2);
        Pass(Options.LeaderWait - TimeSpan.FromMilliseconds(200));
        Assert.False(given.Outcome.IsCompleted);
        Pass(TimeSpan.FromMilliseconds(300));
        Assert.Equal(ProposalStatus.Unknown, (await Answered(given)).Status);
        Assert.Equal(ProposalStatus.Dropped, (await Answered(refused)).Status);
        Assert.Equal([1UL], _forwarded);
    }

    [Fact]
    public async Task ReadsGoOnWhereWhatIsAppliedSufficesAndEndAfterTheWaitWhereItDoesNot()
    {
        FillDisk();
        var served = Propose([]);
        Pass(Options.Tick * 3);
        Assert.Equal(ProposalStatus.Committed, (await Answered(served)).Status);

        _readIndex = Position.Index + 1;
        var late = Propose([]);
        Pass(Options.LeaderWait - TimeSpan.FromMilliseconds(200));
        Assert.False(late.Outcome.IsCompleted);
        Pass(TimeSpan.FromMilliseconds(300));
        Assert.Equal(ProposalStatus.Dropped, (await Answered(late)).Status);
    }

    [Fact]
    public async Task WithRoomAgainAllGoesOnByItself()
    {
        FillDisk();
        var refused = Propose(1);
        _readIndex = Position.Index + 1;
        var read = Propose([]);
        Pass(TimeSpan.FromSeconds(1));
        Assert.Equal(ProposalStatus.Dropped, (await Answered(refused)).Status);
        Assert.False(read.Outcome.IsCompleted);

        _disk.Fault = null;
        Assert.True(_persist.TryFinish());
        _ = Propose(2);
        Pass(TimeSpan.FromSeconds(1));
        Assert.Equal(ProposalStatus.Committed, (await Answered(read)).Status);
        Assert.Equal([2UL], _forwarded);
    }

    /// <summary>Two leaders were given it, and the second is an older program that does not know the command.</summary>
    [Fact]
    public async Task ABatchThatALeaderRefusesForGoodIsNotOfferedForEver()
    {
        var write = Propose(1);
        Turn();
        Says(new Message { Type = MessageType.Heartbeat, From = 3, Term = 2 });
        Turn();
        Refuse(reason: 1);
        Assert.Equal([1UL, 1UL, 1UL], _forwarded);
        Assert.False(write.Outcome.IsCompleted);
        Refuse(reason: 2);
        Assert.Equal([1UL, 1UL, 1UL], _forwarded);
        Assert.Equal(ProposalStatus.Unknown, (await Answered(write)).Status);
    }

    private void Refuse(ulong reason)
    {
        _mailbox.Post(new Event { Kind = EventKind.ForwardRefused, A = 3, B = 1, C = 1, D = reason, State = "no" });
        Turn();
    }

    /// <summary>The leader's next entry, committed by the others, finds no room here.</summary>
    private void FillDisk()
    {
        _disk.Fault = static (operation, _) =>
        {
            if (operation == DiskOperation.Write)
            {
                throw SimDisk.Error(SimDisk.Enospc);
            }
        };
        _commit = Position.Index + 1;
        Says(new Message
        {
            Type = MessageType.Append,
            From = Leader,
            Term = 1,
            Entry = Position,
            Commit = _commit,
            Entries = new[] { new LogEntry(new EntryId(1, _commit), EntryKind.Empty, default) },
        });
        Turn();
        Assert.True(_persist.TryBegin());
        Assert.False(_persist.TryFinish());
        Turn();
    }

    private TestBatch Propose(ulong value) => Propose(BitConverter.GetBytes(value));

    private TestBatch Propose(byte[] payload)
    {
        var batch = new TestBatch(payload);
        Assert.True(_mailbox.TryPropose(batch));
        return batch;
    }

    /// <summary>Turn by turn, a tick each, while the leader stays in touch.</summary>
    private void Pass(TimeSpan time)
    {
        for (var end = _now + (long)time.TotalNanoseconds; _now < end;)
        {
            _now += (long)Options.Tick.TotalNanoseconds;
            Says(new Message { Type = MessageType.Heartbeat, From = Leader, Term = 1 });
            Turn();
        }
    }

    private void Turn()
    {
        _driver.Turn(_now);
        while (_apply.RunOnce())
        {
        }
    }

    private static Task<ProposalOutcome> Answered(TestBatch batch) => batch.Outcome.WaitAsync(EngineHarness.Patience);

    private void Says(Message message) =>
        _mailbox.Post(new Event { Kind = EventKind.Message, Message = message with { To = 1 } });

    private void Hears(Message message)
    {
        if (message.Type == MessageType.ReadIndex)
        {
            Says(new Message
            {
                Type = MessageType.ReadIndexResponse,
                From = message.To,
                Term = 1,
                Context = message.Context,
                Entry = new EntryId(0, _readIndex),
            });
        }
    }
}

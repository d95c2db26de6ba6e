using KvNode.Raft.Engine;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

public sealed class EngineTests
{
    [Fact]
    public async Task WhatWasCommittedIsThereAfterARestartOnARealDisk()
    {
        using var directory = new TempDirectory();
        var disk = FileDisk.OpenOrCreate(Path.Combine(directory.Path, "a", "wal"));
        await using (var first = await new EngineHarness(disk).StartAsync())
        {
            for (var i = 0UL; i < 500; i++)
            {
                await first.CommitAsync(i);
            }

            Assert.Equal(2UL, first.Engine.Status.Term);
            Assert.InRange(first.Engine.Status.LastLog.Index, 3UL, 502UL);
            Assert.Equal(first.Engine.Status.LastLog.Index, first.Engine.Status.DurableIndex);
        }

        await using var second = await new EngineHarness(disk).StartAsync();
        Assert.Equal(Enumerable.Range(0, 500).Select(i => (ulong)i), FakeMachine.Numbers(second.Machine.Values));
        Assert.Equal(3UL, second.Engine.Status.Term);
        Assert.Equal(second.Engine.Status.LastLog.Index, second.Engine.Status.AppliedIndex);
    }

    [Fact]
    public async Task ThePublicConstructorMakesItsDirectory()
    {
        using var directory = new TempDirectory();
        var options = new RaftOptions
        {
            LogDirectory = Path.Combine(directory.Path, "log"),
            DataDirectory = directory.Path,
            Address = "here:1",
            SegmentBytes = 64 * 1024,
        };
        var machine = new FakeMachine();
        await using (var engine = new RaftEngine(
            options, new FakeSnapshots(), static _ => new NoPeers(), static e => throw e, disks: null))
        {
            await engine.StartAsync(machine, CancellationToken.None);
            var batch = new TestBatch(7);
            engine.Propose(batch);
            Assert.Equal(ProposalStatus.Committed, (await batch.Outcome).Status);
        }

        var report = WalInspector.Inspect(options.LogDirectory, machine.Last);
        Assert.True(report.Sound, string.Join('\n', report.Findings));
        Assert.Equal(3UL, report.Last.Index);
    }

    [Theory]
    [InlineData(true, Durability.High)]
    [InlineData(false, Durability.High)]
    [InlineData(true, Durability.Medium)]
    [InlineData(false, Durability.Low)]
    public async Task BatchesAreAppendedInTheOrderTheyWereOfferedAndCompletedAfterTheyWereApplied(
        bool inline, Durability durability)
    {
        const int count = 3000;
        var disk = new SimDisk();
        var completed = 0;
        var machine = new FakeMachine();
        await using (var node = await new EngineHarness(
            disk, machine, options => options with { ApplyInline = inline, Durability = durability })
            .StartAsync())
        {
            var batches = new TestBatch[count];
            for (var i = 0; i < count; i++)
            {
                var order = i;
                batches[i] = new TestBatch((ulong)i)
                {
                    OnComplete = () =>
                    {
                        Assert.True(machine.Count > order);
                        Assert.Equal(order, Interlocked.Increment(ref completed) - 1);
                    },
                };
                node.Engine.Propose(batches[i]);
            }

            foreach (var batch in batches)
            {
                Assert.Equal(ProposalStatus.Committed, (await batch.Outcome.WaitAsync(EngineHarness.Patience)).Status);
            }

            Assert.Equal(Enumerable.Range(0, count).Select(i => (ulong)i), FakeMachine.Numbers(machine.Values));
            Assert.Equal(count, node.Engine.Metrics.Proposals);
            Assert.InRange(node.Engine.Metrics.Entries, 3, count + 2);
            Assert.False(node.Fatal.IsCompleted);
        }

        var again = new FakeMachine();
        await using var second = await new EngineHarness(disk.AfterPowerLoss(new Random(1)), again).StartAsync();
        Assert.Equal(Enumerable.Range(0, count).Select(i => (ulong)i), FakeMachine.Numbers(again.Values));
    }

    [Fact]
    public async Task ManyProposersAreEachServedInTheirOwnOrder()
    {
        const int proposers = 8;
        const int each = 400;
        await using var node = await new EngineHarness(new SimDisk()).StartAsync();
        await Task.WhenAll(Enumerable.Range(0, proposers).Select(proposer => Task.Run(async () =>
        {
            for (var i = 0; i < each; i++)
            {
                await node.CommitAsync((ulong)((proposer * 1000) + i));
            }
        })));
        var values = FakeMachine.Numbers(node.Machine.Values);
        Assert.Equal(proposers * each, values.Count);
        for (var proposer = 0; proposer < proposers; proposer++)
        {
            var own = values.Where(value => value / 1000 == (ulong)proposer).ToList();
            Assert.Equal(own.Order(), own);
            Assert.Equal(each, own.Count);
        }
    }

    [Fact]
    public async Task ABatchMayBeAddedToUntilItIsSealedAndOthersMayBeOfferedMeanwhile()
    {
        await using var node = await new EngineHarness(new SimDisk()).StartAsync();
        using var applying = new ManualResetEventSlim();
        using var release = new ManualResetEventSlim();
        node.Machine.OnApply = _ =>
        {
            applying.Set();
            Assert.True(release.Wait(EngineHarness.Patience));
        };
        var first = new TestBatch(1);
        node.Engine.Propose(first);
        Assert.True(applying.Wait(EngineHarness.Patience));

        // With the first one stuck in apply on the log's thread, this one is not sealed yet.
        var inner = new TestBatch(3);
        var second = new TestBatch(0) { OnSeal = () => node.Engine.Propose(inner) };
        node.Engine.Propose(second);
        second.Payload = BitConverter.GetBytes(2UL);
        node.Machine.OnApply = null;
        release.Set();
        foreach (var batch in new[] { first, second, inner })
        {
            Assert.Equal(ProposalStatus.Committed, (await batch.Outcome.WaitAsync(EngineHarness.Patience)).Status);
        }

        Assert.Equal([1UL, 2, 3], FakeMachine.Numbers(node.Machine.Values));
    }

    [Fact]
    public async Task AStuckMachineHoldsBackTheLogInsteadOfMemory()
    {
        var sealedBytes = 0L;
        await using var node = await new EngineHarness(
            new SimDisk(),
            configure: options => options with
            {
                UncommittedBytesMax = 10_000,
                EntryBytesSoft = 2_000,
                ApplyInline = false,
            })
            .StartAsync();
        using var release = new ManualResetEventSlim();
        node.Machine.OnApply = _ => release.Wait(EngineHarness.Patience);
        var batches = Enumerable.Range(0, 200)
            .Select(_ => new TestBatch(new byte[1000]) { OnSeal = () => Interlocked.Add(ref sealedBytes, 1000) })
            .ToList();
        batches.ForEach(node.Engine.Propose);
        _ = SpinWait.SpinUntil(() => Interlocked.Read(ref sealedBytes) >= 10_000, EngineHarness.Patience);
        var settled = Interlocked.Read(ref sealedBytes);
        Assert.InRange(settled, 9_000, 18_000);
        Assert.Equal(0, batches.Count(batch => batch.Outcome.IsCompleted));
        release.Set();
        foreach (var batch in batches)
        {
            Assert.Equal(ProposalStatus.Committed, (await batch.Outcome.WaitAsync(EngineHarness.Patience)).Status);
        }
    }

    [Fact]
    public async Task ABatchLargerThanEverythingIsOneEntry()
    {
        var disk = new SimDisk();
        var large = new byte[1_500_000];
        new Random(1).NextBytes(large);
        await using (var node = await new EngineHarness(
            disk, configure: options => options with { EntryBytesSoft = 1000 }).StartAsync())
        {
            await node.CommitAsync(1);
            Assert.Equal(ProposalStatus.Committed, (await node.ProposeAsync(new TestBatch(large))).Status);
            await node.CommitAsync(2);
        }

        await using var again = await new EngineHarness(disk).StartAsync();
        Assert.True(large.AsSpan().SequenceEqual(again.Machine.Values[1]));
    }

    [Fact]
    public async Task AMachineThatRefusesWritesGetsNoEntry()
    {
        await using var node = await new EngineHarness(new SimDisk()).StartAsync();
        await node.CommitAsync(1);
        node.Machine.WriteRefusal = "the store is full";
        var outcome = await node.ProposeAsync(new TestBatch(2));
        Assert.Equal(new ProposalOutcome(ProposalStatus.Dropped, null, "the store is full"), outcome);
        Assert.Equal("the store is full", node.Engine.Status.WriteRefusal);
        node.Machine.WriteRefusal = null;
        await node.CommitAsync(3);
        Assert.Equal([1UL, 3], FakeMachine.Numbers(node.Machine.Values));
        Assert.Equal(4UL, node.Engine.Status.LastLog.Index);
    }

    [Fact]
    public async Task HoweverMuchWasRefusedWritesAreTakenAfterwards()
    {
        await using var node = await new EngineHarness(
            new SimDisk(), configure: options => options with { EntryBytesSoft = 2_000 }).StartAsync();
        node.Machine.WriteRefusal = "the store is full";
        for (var i = 0; i < 10; i++)
        {
            Assert.Equal(ProposalStatus.Dropped, (await node.ProposeAsync(new TestBatch(new byte[1000]))).Status);
        }

        node.Machine.WriteRefusal = null;
        await node.CommitAsync(1);
    }

    [Fact]
    public async Task DisposeCompletesWhatWasProposedAndDropsWhatComesLater()
    {
        var disk = new SimDisk();
        var node = await new EngineHarness(
            disk, configure: options => options with { Durability = Durability.Low }).StartAsync();
        var batches = Enumerable.Range(0, 100).Select(i => new TestBatch((ulong)i)).ToList();
        batches.ForEach(node.Engine.Propose);
        await node.DisposeAsync().AsTask().WaitAsync(EngineHarness.Patience);
        Assert.All(batches, batch => Assert.Equal(ProposalStatus.Committed, batch.Outcome.Result.Status));
        var late = await node.ProposeAsync(new TestBatch(1));
        Assert.Equal(ProposalStatus.Dropped, late.Status);
        Assert.Equal("the node is shutting down", late.Reason);
        Assert.Equal(RaftRole.Shutdown, node.Engine.Status.Role);
        await node.DisposeAsync();

        // A clean stop syncs at every level.
        await using var again = await new EngineHarness(disk.AfterPowerLoss(new Random(1))).StartAsync();
        Assert.Equal(100, again.Machine.Values.Count);
    }

    [Fact]
    public async Task AnEngineThatWasNeverStartedCanBeDisposed() =>
        await new EngineHarness(new SimDisk()).DisposeAsync();

    [Fact]
    public async Task OnlyEntriesTheMachineHasNotAppliedAreReplayed()
    {
        var disk = new SimDisk();
        EntryId durable = default;
        ReadOnlyMemory<byte> state = default;
        await using (var node = await new EngineHarness(disk).StartAsync())
        {
            for (var i = 0UL; i < 100; i++)
            {
                await node.CommitAsync(i);
                if (i == 60)
                {
                    node.Machine.Checkpoint();
                    (durable, state) = (node.Machine.Durable, node.Machine.EngineState);
                }
            }
        }

        await using var again = await new EngineHarness(
            disk, new FakeMachine(durable) { EngineState = state }).StartAsync();
        Assert.Equal(Enumerable.Range(61, 39).Select(i => (ulong)i), FakeMachine.Numbers(again.Machine.Values));
    }

    [Theory]
    [InlineData(2, 9, "the log has lost its end")]
    [InlineData(9, 2, "not this store's log")]
    public async Task AStoreThatTheLogDoesNotContinueIsRefused(ulong term, ulong index, string reason)
    {
        var disk = new SimDisk();
        await using (var node = await new EngineHarness(disk).StartAsync())
        {
            await node.CommitAsync(1);
            await node.CommitAsync(2);
        }

        var before = disk.Operations;
        await using var again = new EngineHarness(disk, new FakeMachine(new EntryId(term, index)));
        var error = await Assert.ThrowsAsync<LogCorruptException>(again.StartAsync);
        Assert.Contains(reason, error.Message, StringComparison.Ordinal);
        Assert.True(disk.Operations > before);
        Assert.Empty(again.Machine.Values);
    }

    [Fact]
    public async Task ATornTailIsCutAndReported()
    {
        var disk = new SimDisk();
        await using (var node = await new EngineHarness(disk).StartAsync())
        {
            Assert.Null(node.Engine.TornTail);
            await node.CommitAsync(1);
            await node.CommitAsync(2);
        }

        var end = (int)WalRecovery.Inspect(disk).End;
        disk.Raw(WalFormat.SegmentName(1)).AsSpan(end - 512, 512).Clear();
        disk.Raw(WalFormat.SegmentName(1)).AsSpan(end, 512).Fill(0x5A);
        await using var again = await new EngineHarness(disk).StartAsync();
        Assert.Contains($"at byte {end - 512}", again.Engine.TornTail, StringComparison.Ordinal);
        await again.CommitAsync(3);
        Assert.Equal([1UL, 3], FakeMachine.Numbers(again.Machine.Values));
    }

    [Fact]
    public async Task ALogThatIsGoneIsRefusedIfTheStoreHasSeenIt()
    {
        await using var node = new EngineHarness(new SimDisk(), new FakeMachine(new EntryId(1, 5)));
        _ = await Assert.ThrowsAsync<LogCorruptException>(node.StartAsync);
    }

    [Fact]
    public async Task TermsOnlyRiseAndEachStartBeginsItsOwn()
    {
        var disk = new SimDisk();
        for (var start = 1UL; start <= 5; start++)
        {
            await using var node = await new EngineHarness(disk).StartAsync();
            Assert.Equal(start + 1, node.Engine.Status.Term);
            Assert.Equal(new EntryId(start + 1, start + 1), node.Machine.Last);
            disk = disk.AfterPowerLoss(new Random((int)start));
        }
    }

    [Fact]
    public async Task TheLogIsGivenUpAsFarAsTheMachineIsDurable()
    {
        var disk = new SimDisk();
        await using var node = await new EngineHarness(
            disk, wal: new WalOptions { SegmentBytes = 32 * 512, Background = false }).StartAsync();
        for (var i = 0; i < 100; i++)
        {
            _ = await node.ProposeAsync(new TestBatch(new byte[1000]));
        }

        Assert.Equal(1UL, node.Engine.Status.FirstLogIndex);
        var bytes = node.Engine.Status.LogBytes;
        var shrunk = await node.Engine.ShrinkLogAsync();
        Assert.True(shrunk.Ok, shrunk.Detail);
        var status = node.Engine.Status;
        Assert.InRange(status.FirstLogIndex, 80UL, 102UL);
        Assert.True(status.LogBytes < bytes / 2);

        // And by itself at each roll.
        for (var i = 0; i < 100; i++)
        {
            node.Machine.Durable = node.Machine.Last;
            _ = await node.ProposeAsync(new TestBatch(new byte[1000]));
        }

        Assert.InRange(node.Engine.Status.FirstLogIndex, 150UL, 202UL);
    }

    [Fact]
    public async Task ASnapshotIsTakenOnRequest()
    {
        await using var node = await new EngineHarness(new SimDisk()).StartAsync();
        await node.CommitAsync(1);
        Assert.Equal(new AdminOutcome(true, "2-3"), await node.Engine.SnapshotNowAsync());
        Assert.Equal(new EntryId(2, 3), node.Engine.Status.LastSnapshot);
        node.Snapshots.Failure = new IOException("no room");
        Assert.Equal(new AdminOutcome(false, "no room"), await node.Engine.SnapshotNowAsync());
    }

    [Fact]
    public async Task WhatASingleNodeCannotDoItSays()
    {
        var node = new EngineHarness(new SimDisk());
        Assert.False((await node.Engine.SnapshotNowAsync()).Ok);
        var change = default(LeaderChange);
        using var changed = new ManualResetEventSlim();
        node.Engine.LeaderChanged += leader =>
        {
            change = leader;
            changed.Set();
        };
        _ = await node.StartAsync();
        Assert.True(changed.Wait(EngineHarness.Patience));
        Assert.Equal(new LeaderChange(2, "127.0.0.1:4920", IsSelf: true), change);
        Assert.False((await node.Engine.ChangeMembershipAsync(default)).Ok);
        Assert.False((await node.Engine.TransferLeadershipAsync(null)).Ok);
        var member = Assert.Single(node.Engine.Status.Members);
        Assert.Equal(new RaftMember(node.Engine.Status.NodeId, "127.0.0.1:4920", true, RaftRole.Leader), member with { Match = null });
        Assert.Equal("127.0.0.1:4920", node.Engine.Status.LeaderAddress);
        await node.DisposeAsync();
    }

    [Fact]
    public async Task AReadBarrierSeesEverythingAcknowledgedBefore()
    {
        await using var node = await new EngineHarness(new SimDisk()).StartAsync();
        for (var i = 0UL; i < 50; i++)
        {
            await node.CommitAsync(i);
            var barrier = await node.Engine.ReadBarrierAsync(ReadLevel.Linearizable);
            Assert.True(barrier.Ok);
            Assert.Equal(i + 3, barrier.AppliedIndex);
        }
    }

    [Fact]
    public async Task StartCanBeCancelledBetweenSpansOfReplay()
    {
        var disk = new SimDisk();
        await using (var node = await new EngineHarness(disk).StartAsync())
        {
            await node.CommitAsync(1);
        }

        await using var again = new EngineHarness(disk);
        _ = await Assert.ThrowsAnyAsync<OperationCanceledException>(
            async () => await again.Engine.StartAsync(again.Machine, new CancellationToken(canceled: true)));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task ACommitAllocatesNothingOnTheEnginesThreads(bool inline)
    {
        using var directory = new TempDirectory();
        var machine = new MeasuringMachine();
        var options = new RaftOptions
        {
            LogDirectory = "unused",
            DataDirectory = "unused",
            Address = "x",
            ApplyInline = inline,
        };
        await using var engine = new RaftEngine(
            options,
            new FakeSnapshots(),
            static _ => new NoPeers(),
            static e => throw e,
            new EngineDisks(FileDisk.OpenOrCreate(directory.Path), new SimDisk(), new WalOptions { SegmentBytes = 1 << 20 }, static () => 1));
        await engine.StartAsync(machine, CancellationToken.None);
        using var batch = new ReusedBatch();
        // The first rounds may pay for code being compiled again; an allocation per commit would be in every one.
        var least = (Machine: long.MaxValue, Batch: long.MaxValue);
        for (var round = 0; round < 5 && least != (0, 0); round++)
        {
            machine.Restart();
            batch.Restart();
            for (var i = 0; i < 200; i++)
            {
                engine.Propose(batch);
                batch.Wait();
            }

            least = (Math.Min(least.Machine, machine.Allocated), Math.Min(least.Batch, batch.Allocated));
        }

        Assert.Equal((0, 0), least);
    }

    /// <summary>What its calling thread allocates between the first and the last look at it.</summary>
    private struct AllocationMeter
    {
        private long _first;

        public long Allocated { get; private set; }

        public void Look()
        {
            var now = GC.GetAllocatedBytesForCurrentThread();
            _first = _first == 0 ? now : _first;
            Allocated = now - _first;
        }
    }

    [Theory]
    [InlineData(false, false, "raft")]
    [InlineData(true, false, "apply")]
    [InlineData(false, true, "apply")]
    public async Task WhatTakesLongOrWaitsForADiskIsAppliedOnItsOwnThread(bool isLong, bool mayWait, string expected)
    {
        await using var node = await new EngineHarness(new SimDisk()).StartAsync();
        await node.CommitAsync(1);
        var thread = "";
        node.Machine.OnApply = _ => thread = Thread.CurrentThread.Name!;
        node.Machine.IsLongAlways = isLong;
        node.Machine.ApplyMayWait = mayWait;
        await node.CommitAsync(2);
        Assert.Equal(expected, thread);
    }

    private sealed class MeasuringMachine : IReplicatedStateMachine
    {
        private AllocationMeter _meter;

        public long Allocated => _meter.Allocated;

        public EntryId Durable => default;

        public ReadOnlyMemory<byte> EngineState => default;

        public EntryId InstalledAt => default;

        public string? WriteRefusal => null;

        public bool ApplyMayWait => false;

        public bool IsLong(ReadOnlySpan<byte> payload) => false;

        public string? Check(ReadOnlySpan<byte> payload) => null;

        public long StateBytes => 0;

        public void Restart() => _meter = default;

        public void Apply(ReadOnlySpan<CommittedEntry> entries, ReadOnlySpan<byte> engineState) => _meter.Look();

        public void Read(ReadOnlySpan<ProposalBatch> batches)
        {
        }

        public ISnapshotReader OpenSnapshot() => throw new NotSupportedException();

        public ISnapshotWriter CreateRestore(SnapshotMeta meta) => throw new NotSupportedException();

        public void Checkpoint()
        {
        }
    }

    private sealed class ReusedBatch : ProposalBatch, IDisposable
    {
        private readonly byte[] _payload = new byte[200];
        private readonly ManualResetEventSlim _done = new();
        private AllocationMeter _meter;

        public long Allocated => _meter.Allocated;

        public void Restart() => _meter = default;

        public void Wait()
        {
            Assert.True(_done.Wait(EngineHarness.Patience));
            _done.Reset();
        }

        public override ReadOnlyMemory<byte> Seal()
        {
            _meter.Look();
            return _payload;
        }

        public override void Complete(ProposalOutcome outcome) => _done.Set();

        public void Dispose() => _done.Dispose();
    }
}

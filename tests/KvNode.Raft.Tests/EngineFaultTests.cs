using KvNode.Native;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

public sealed class EngineFaultTests
{
    private static readonly WalOptions Deterministic = new()
    {
        SegmentBytes = 32 * 512,
        SegmentBytesMin = 4 * 512,
        Background = false,
    };

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AFailedSyncIsFatalAndAcknowledgesNothing(bool inline)
    {
        var disk = new SimDisk();
        await using var node = await new EngineHarness(
            disk, configure: options => options with { ApplyInline = inline }).StartAsync();
        await node.CommitAsync(1);
        disk.Fault = static (operation, _) =>
        {
            if (operation == DiskOperation.SyncData)
            {
                throw new SyncFailedException("fdatasync", "sim", SimDisk.Eio);
            }
        };
        var first = new TestBatch(2);
        node.Engine.Propose(first);
        _ = Assert.IsType<SyncFailedException>(await node.Fatal.WaitAsync(EngineHarness.Patience));
        disk.Fault = null;
        var second = new TestBatch(3);
        node.Engine.Propose(second);
        await node.DisposeAsync();
        Assert.False(first.Outcome.IsCompleted);
        Assert.False(second.Outcome.IsCompleted);
        Assert.Single(node.Machine.Values);
    }

    [Fact]
    public async Task AFailedWriteIsFatalAndAcknowledgesNothing()
    {
        var disk = new SimDisk();
        await using var node = await new EngineHarness(disk).StartAsync();
        disk.Fault = static (operation, _) =>
        {
            if (operation == DiskOperation.Write)
            {
                throw SimDisk.Error(SimDisk.Eio);
            }
        };
        var batch = new TestBatch(2);
        node.Engine.Propose(batch);
        Assert.Equal(SimDisk.Eio, (await node.Fatal.WaitAsync(EngineHarness.Patience)).HResult);
        await node.DisposeAsync();
        Assert.False(batch.Outcome.IsCompleted);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task AMachineThatThrowsIsFatal(bool inline)
    {
        await using var node = await new EngineHarness(
            new SimDisk(), configure: options => options with { ApplyInline = inline }).StartAsync();
        node.Machine.OnApply = static _ => throw new InvalidOperationException("cannot go on");
        var batch = new TestBatch(2);
        node.Engine.Propose(batch);
        Assert.Equal("cannot go on", (await node.Fatal.WaitAsync(EngineHarness.Patience)).Message);
        await node.DisposeAsync();
        Assert.False(batch.Outcome.IsCompleted);
    }

    [Fact]
    public async Task AFailedSyncAskedForByTheStoreIsFatalToo()
    {
        var disk = new SimDisk();
        await using var node = await new EngineHarness(
            disk, configure: options => options with { Durability = Durability.Low }).StartAsync();
        await node.CommitAsync(1);
        disk.Fault = static (operation, _) =>
        {
            if (operation == DiskOperation.SyncData)
            {
                throw new SyncFailedException("fdatasync", "sim", SimDisk.Eio);
            }
        };
        _ = Assert.Throws<SyncFailedException>(() => node.Engine.EnsureLogDurable(3));
        _ = Assert.IsType<SyncFailedException>(await node.Fatal.WaitAsync(EngineHarness.Patience));
    }

    [Fact]
    public async Task AFullDiskDropsBatchesWithAReasonAndWritingResumesByItself()
    {
        var disk = new SimDisk { Capacity = 4 * 32 * 512 };
        await using var node = await new EngineHarness(disk, wal: Deterministic).StartAsync();
        var kept = new List<ulong>();
        ProposalOutcome outcome;
        for (var i = 0UL; ; i++)
        {
            outcome = await node.ProposeAsync(Large(i));
            if (outcome.Status != ProposalStatus.Committed)
            {
                break;
            }

            kept.Add(i);
        }

        Assert.Equal(ProposalStatus.Dropped, outcome.Status);
        Assert.Contains("No space left on device", outcome.Reason, StringComparison.Ordinal);
        Assert.True(kept.Count > 10);

        // Small ones fit for a while; then the node as a whole refuses.
        while ((await node.ProposeAsync(new TestBatch(99))).Status == ProposalStatus.Committed)
        {
            kept.Add(99);
        }

        Assert.True(SpinWait.SpinUntil(() => node.Engine.Status.WriteRefusal is not null, EngineHarness.Patience));
        var status = node.Engine.Status;
        Assert.Equal(RaftRole.Leader, status.Role);
        Assert.Equal((ulong)kept.Count + 2, status.LastLog.Index);

        disk.Capacity = long.MaxValue;
        Assert.True(SpinWait.SpinUntil(() => node.Engine.Status.WriteRefusal is null, EngineHarness.Patience));
        await node.CommitAsync(1000);
        kept.Add(1000);
        Assert.Equal(kept, FakeMachine.Numbers(node.Machine.Values));
        await node.DisposeAsync();

        var again = new FakeMachine();
        var after = disk.AfterPowerLoss(new Random(1));
        await using var second = await new EngineHarness(after, again, wal: Deterministic).StartAsync();
        Assert.Equal(kept, FakeMachine.Numbers(again.Values));
    }

    [Fact]
    public async Task ANodeStartsOnAFullDiskAndWritesOnceThereIsSpace()
    {
        var disk = new SimDisk();
        await using (var node = await new EngineHarness(disk, wal: Deterministic).StartAsync())
        {
            for (var i = 0UL; i < 5; i++)
            {
                _ = await node.ProposeAsync(Large(i));
            }
        }

        // There is room for recovery, and none from the moment the first entry was replayed.
        var started = false;
        disk.Fault = (operation, _) =>
        {
            if (operation == DiskOperation.Write && Volatile.Read(ref started))
            {
                throw SimDisk.Error(SimDisk.Enospc);
            }
        };
        var machine = new FakeMachine { OnApply = _ => Volatile.Write(ref started, true) };
        await using var full = await new EngineHarness(disk, machine, wal: Deterministic).StartAsync();
        Assert.NotNull(full.Engine.Status.WriteRefusal);
        Assert.Equal(5, full.Machine.Values.Count);
        var refused = await full.ProposeAsync(new TestBatch(7));
        Assert.Equal(ProposalStatus.Dropped, refused.Status);

        Volatile.Write(ref started, false);
        machine.OnApply = null;
        Assert.True(SpinWait.SpinUntil(() => full.Engine.Status.WriteRefusal is null, EngineHarness.Patience));
        await full.CommitAsync(8);
        Assert.Equal(3UL, full.Engine.Status.Term);
        Assert.Equal(8UL, FakeMachine.Numbers(full.Machine.Values)[^1]);
        Assert.Equal(3UL, full.Machine.Ids[^2].Term);
    }

    /// <summary>Power is lost while the engine runs with concurrent proposers: what was acknowledged is there, the
    /// rest is
    /// whole or gone.</summary>
    [Fact]
    public async Task WhatTheEngineAcknowledgedSurvivesPowerLoss()
    {
        for (var seed = 0; seed < 60; seed++)
        {
            var random = new Random(seed);
            var disk = new SimDisk();
            var data = new SimDisk();
            var moment = random.Next(20, 400);
            var acknowledged = new List<TestBatch>();
            var all = new List<TestBatch>();
            var node = new EngineHarness(
                disk,
                configure: options => options with
                {
                    EntryBytesSoft = random.Next(1, 4) * 600,
                    ApplyInline = random.Next(2) == 0,
                },
                wal: new WalOptions { SegmentBytes = 32 * 512, Background = random.Next(2) == 0 },
                data: data);
            _ = await node.StartAsync();
            disk.Fault = (_, number) =>
            {
                if (number >= moment)
                {
                    throw new PowerLossException();
                }
            };
            while (!node.Fatal.IsCompleted)
            {
                var burst = Enumerable.Range(0, random.Next(1, 8)).Select(_ => new TestBatch(Payload(random))).ToList();
                all.AddRange(burst);
                burst.ForEach(node.Engine.Propose);
                var outcomes = Task.WhenAll(burst.Select(batch => batch.Outcome));
                _ = await Task.WhenAny(node.Fatal, outcomes).WaitAsync(EngineHarness.Patience);
                acknowledged.AddRange(burst.Where(batch => batch.Outcome.IsCompletedSuccessfully));
                if (random.Next(10) == 0)
                {
                    node.Machine.Checkpoint();
                }
            }

            var next = new FakeMachine(node.Machine.Durable) { EngineState = node.Machine.EngineState };
            var before = node.Machine.CountThrough(node.Machine.Durable.Index);
            await using var again = await new EngineHarness(disk.AfterPowerLoss(random), next, data: data).StartAsync();
            Assert.Equal(3UL, again.Engine.Status.Term);
            var recovered = next.Values;
            Assert.InRange(before + recovered.Count, acknowledged.Count, all.Count);
            Assert.Equal(all.Skip(before).Take(recovered.Count).Select(batch => batch.Payload), recovered);
            disk.Kill();
            await node.DisposeAsync();
        }
    }

    [Fact]
    public async Task UnderMediumTheLogIsSyncedByTheClockAndUnderLowOnlyOnRequest()
    {
        await using (var medium = await new EngineHarness(
            new SimDisk(),
            configure: options => options with
            {
                Durability = Durability.Medium,
                SyncInterval = TimeSpan.FromMilliseconds(20),
            })
            .StartAsync())
        {
            await medium.CommitAsync(1);
            Assert.True(SpinWait.SpinUntil(() => medium.Engine.Status.DurableIndex == 3, EngineHarness.Patience));
        }

        var disk = new SimDisk();
        await using var low = await new EngineHarness(
            disk, configure: options => options with { Durability = Durability.Low }).StartAsync();
        await low.CommitAsync(1);
        Assert.Equal(1UL, low.Engine.Status.DurableIndex);
        low.Engine.EnsureLogDurable(3);
        Assert.Equal(3UL, low.Engine.Status.DurableIndex);
    }

    /// <summary>
    /// The store's flush asks for the log's durability while the machine waits for that flush in Apply.
    /// </summary>
    [Fact]
    public async Task AnApplyThatWaitsForTheLogsDurabilityOnAnotherThreadIsNotADeadlock()
    {
        await using var node = await new EngineHarness(
            new SimDisk(), configure: options => options with { Durability = Durability.Low }).StartAsync();
        node.Machine.OnApply = id =>
        {
            var flush = new Thread(() => node.Engine.EnsureLogDurable(id.Index));
            flush.Start();
            Assert.True(flush.Join(EngineHarness.Patience));
        };
        for (var i = 0UL; i < 20; i++)
        {
            await node.CommitAsync(i);
        }

        Assert.Equal(22UL, node.Engine.Status.DurableIndex);
    }

    private static TestBatch Large(ulong number)
    {
        var payload = new byte[1500];
        _ = BitConverter.TryWriteBytes(payload, number);
        return new TestBatch(payload);
    }

    private static byte[] Payload(Random random)
    {
        var payload = new byte[random.Next(1, 900)];
        random.NextBytes(payload);
        return payload;
    }
}

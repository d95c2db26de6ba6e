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

            Assert.Equal(1UL, first.Engine.Status.Term);
            Assert.Equal(501UL, first.Engine.Status.DurableIndex);
        }

        await using var second = await new EngineHarness(disk).StartAsync();
        Assert.Equal(Enumerable.Range(0, 500).Select(i => (ulong)i), FakeMachine.Numbers(second.Machine.Values));
        Assert.Equal(2UL, second.Engine.Status.Term);
        Assert.Equal(502UL, second.Engine.Status.AppliedIndex);
    }
}

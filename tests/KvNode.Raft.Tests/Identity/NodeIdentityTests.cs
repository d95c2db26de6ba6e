using KvNode.Native;
using KvNode.Raft.Identity;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

public sealed class NodeIdentityTests
{
    private const ulong NewId = 0x1122_3344_5566_7788;

    /// <summary>PERSISTED.</summary>
    [Fact]
    public void TheFileIsAsItAlwaysWas()
    {
        var bytes = new byte[64];
        new IdentityRecord(NewId, 0xA1A2_A3A4_A5A6_A7A8, 5, IsRemoved: true).Encode(bytes);
        Assert.Equal(
            "4B564E4F44454944" + "01000000" + "01000000" + "8877665544332211" + "A8A7A6A5A4A3A2A1" + "0500000000000000"
            + "0000000000000000" + "0000000000000000" + "00000000" + "C42A0ECB",
            Convert.ToHexString(bytes));
        Assert.Equal("KVNODEID"u8, bytes.AsSpan(0, 8));
    }

    [Fact]
    public void ANewNodeGetsAnIdOfItsOwnAndKeepsItAndEachStartIsANewIncarnation()
    {
        using var directory = new TempDirectory();
        var path = Path.Combine(directory.Path, "deeper", "data");
        Assert.False(NodeIdentity.Exists(path));
        Assert.Null(NodeIdentity.TryRead(path));
        var first = NodeIdentity.OpenOrCreate(path);
        Assert.NotEqual(0UL, first.NodeId);
        Assert.Equal((0UL, 1UL, false), (first.ClusterId, first.Incarnation, first.IsRemoved));
        Assert.True(NodeIdentity.Exists(path));

        var second = NodeIdentity.OpenOrCreate(path);
        Assert.Equal((first.NodeId, 2UL), (second.NodeId, second.Incarnation));
        Assert.Equal(2UL, NodeIdentity.TryRead(path)!.Incarnation);
        Assert.Equal([NodeIdentity.FileName, "identity.draft"], Directory.GetFiles(path).Select(Path.GetFileName).Order());
        Assert.NotEqual(first.NodeId, NodeIdentity.OpenOrCreate(Path.Combine(directory.Path, "other")).NodeId);
    }

    [Fact]
    public void ClusterAndRemovalAreKeptAndTheClusterDoesNotChangeByAccident()
    {
        var disk = new SimDisk();
        var node = Open(disk);
        node.SetCluster(7);
        node.SetCluster(7);
        var refusal = Assert.Throws<InvalidOperationException>(() => node.SetCluster(8));
        Assert.Contains("0000000000000007", refusal.Message, StringComparison.Ordinal);
        _ = Assert.Throws<InvariantException>(() => Open(new SimDisk()).SetCluster(0));
        Assert.Equal(7UL, Open(disk).ClusterId);
        Open(disk).ReplaceCluster(8);
        Assert.Equal(8UL, Open(disk).ClusterId);
        node = Open(disk);
        Assert.False(node.IsRemoved);
        node.MarkRemoved();
        node.MarkRemoved();
        Assert.True(node.IsRemoved);
        node = Open(disk);
        Assert.Equal((NewId, 8UL, true), (node.NodeId, node.ClusterId, node.IsRemoved));
    }

    [Fact]
    public void NothingIsWrittenWhenNothingChanges()
    {
        var disk = new SimDisk();
        var node = Open(disk);
        node.SetCluster(7);
        node.MarkRemoved();
        var operations = disk.Operations;
        node.SetCluster(7);
        node.MarkRemoved();
        Assert.Equal(operations, disk.Operations);
    }

    [Fact]
    public void ADamagedFileIsAnErrorThatNamesItAndIsLeftAlone()
    {
        var disk = new SimDisk();
        Open(disk).SetCluster(7);
        var good = disk.Raw(NodeIdentity.FileName).ToArray();
        for (var bit = 0; bit < good.Length * 8; bit++)
        {
            var bad = good.ToArray();
            bad[bit / 8] ^= (byte)(1 << (bit % 8));
            AssertRefused(disk, bad);
        }

        for (var length = 0; length < good.Length; length++)
        {
            AssertRefused(disk, good[..length]);
        }

        AssertRefused(disk, [.. good, 0]);
        AssertRefused(disk, new byte[good.Length]);
        disk.SetRaw(NodeIdentity.FileName, good);
        Assert.Equal(7UL, Open(disk).ClusterId);
    }

    [Theory]
    [InlineData(8, 2, "version 2")]
    [InlineData(12, 8, "never writes")]
    [InlineData(16, 0, "never writes")]
    [InlineData(32, 0, "never writes")]
    [InlineData(44, 1, "never writes")]
    public void AFileOfAnotherKindIsRefusedEvenWhenItsChecksumIsRight(int offset, byte value, string reason)
    {
        var bytes = new byte[IdentityRecord.Bytes];
        new IdentityRecord(3, 4, 5, IsRemoved: false).Encode(bytes);
        bytes[offset] = value;
        BitConverter.TryWriteBytes(bytes.AsSpan(60), Crc32C.Compute(bytes.AsSpan(0, 60)));
        var refusal = AssertRefused(new SimDisk(), bytes);
        Assert.Contains(reason, refusal.Message, StringComparison.Ordinal);
    }

    /// <summary>Power is lost, or the process killed, at each operation in turn.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ACrashAtAnyMomentLeavesTheOldIdentityOrTheNewOne(bool powerLoss)
    {
        for (var at = 1L; ; at++)
        {
            var survived = true;
            for (var seed = 0; seed < 8; seed++)
            {
                survived &= CrashAt(at, seed, powerLoss);
            }

            if (survived)
            {
                Assert.True(at > 20);
                return;
            }
        }
    }

    [Theory]
    [InlineData(SimDisk.Enospc)]
    [InlineData(SimDisk.Eio)]
    public void AFailedWriteChangesNothingAndMayBeTriedAgain(int errno)
    {
        var disk = new SimDisk();
        var node = Open(disk);
        disk.PartialWrite = static bytes => bytes / 2;
        disk.Fault = (operation, _) =>
        {
            if (operation == DiskOperation.Write)
            {
                throw SimDisk.Error(errno);
            }
        };
        _ = Assert.Throws<IOException>(() => node.SetCluster(7));
        Assert.Equal(0UL, node.ClusterId);
        disk.Fault = null;
        node.SetCluster(7);
        Assert.Equal(7UL, Open(disk).ClusterId);
    }

    [Theory]
    [InlineData("data")]
    [InlineData("directory")]
    public void AFailedSyncIsNotTakenForSuccess(string which)
    {
        var failing = which == "data" ? DiskOperation.SyncData : DiskOperation.SyncDirectory;
        var disk = new SimDisk();
        var node = Open(disk);
        disk.Fault = (operation, _) =>
        {
            if (operation == failing)
            {
                throw new SyncFailedException("fsync", "sim", SimDisk.Eio);
            }
        };
        _ = Assert.Throws<SyncFailedException>(node.MarkRemoved);
        Assert.False(node.IsRemoved);
    }

    /// <returns>Whether the run needs fewer operations.</returns>
    private static bool CrashAt(long at, int seed, bool powerLoss)
    {
        var disk = new SimDisk
        {
            Fault = (_, number) =>
            {
                if (number >= at)
                {
                    throw new PowerLossException();
                }
            },
        };
        var (incarnation, cluster, removed, survived) = (0UL, 0UL, false, false);
        try
        {
            incarnation = Open(disk).Incarnation;
            var node = Open(disk);
            incarnation = node.Incarnation;
            node.SetCluster(7);
            cluster = 7;
            node.MarkRemoved();
            removed = survived = true;
        }
        catch (PowerLossException)
        {
        }

        var after = powerLoss ? disk.AfterPowerLoss(new Random(seed)) : disk.AfterKill();
        var again = Open(after);
        Assert.Equal(NewId, again.NodeId);
        Assert.InRange(again.Incarnation, incarnation + 1, incarnation + 2);
        Assert.True(again.ClusterId == cluster || again.ClusterId == 7);
        Assert.True(again.IsRemoved || !removed);

        // What this start saw, the next one sees too.
        var next = Open(after.AfterPowerLoss(new Random(seed)));
        Assert.Equal(
            (again.Incarnation + 1, again.ClusterId, again.IsRemoved),
            (next.Incarnation, next.ClusterId, next.IsRemoved));
        return survived;
    }

    private static NodeIdentity Open(SimDisk disk) => NodeIdentity.OpenOrCreate(disk, static () => NewId);

    private static InvalidDataException AssertRefused(SimDisk disk, byte[] bytes)
    {
        disk.SetRaw(NodeIdentity.FileName, bytes);
        var refusal = Assert.Throws<InvalidDataException>(() => Open(disk));
        Assert.Contains("sim/identity: ", refusal.Message, StringComparison.Ordinal);
        Assert.Equal(bytes, disk.Raw(NodeIdentity.FileName));
        return refusal;
    }
}

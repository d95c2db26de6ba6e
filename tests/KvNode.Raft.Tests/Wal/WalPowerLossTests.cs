using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

public sealed class WalPowerLossTests
{
    public static TheoryData<int> Shards => [.. Enumerable.Range(0, 4)];

    [Theory]
    [MemberData(nameof(Shards))]
    public void SyncedFramesSurvivePowerLossAtARandomMomentAndUnsyncedOnesAreWholeOrGone(int shard)
    {
        for (var i = 0; i < 120; i++)
        {
            var seed = (shard * 1_000_000) + i;
            ForSeed(seed, () => RunGenerations(seed));
        }
    }

    [Theory]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(3, false)]
    [InlineData(4, false)]
    public void PowerLossAtEveryOperationOfARunLeavesAWholeLog(int seed, bool syncAlways)
    {
        var operations = CountOperations(seed, syncAlways);
        for (var at = 1; at <= operations; at++)
        {
            var moment = at;
            ForSeed(seed, () => LosePowerAt(moment, seed, syncAlways));
        }
    }

    [Fact]
    public void PowerLossAtEveryOperationOfARecoveryLeavesTheSameLog()
    {
        for (var seed = 0; seed < 12; seed++)
        {
            var operations = 1L;
            for (var at = 1L; at <= operations; at++)
            {
                var random = new Random(seed);
                var rig = CrashedRig(random);
                var moment = at;
                rig.Disk.Fault = (_, number) => LosePowerAfter(number, moment);
                try
                {
                    rig.Open();
                    operations = rig.Disk.Operations;
                }
                catch (PowerLossException)
                {
                    operations = at + 1;
                }

                rig.Restart(rig.Disk.AfterPowerLoss(random));
                rig.Open();
                rig.Close();
            }
        }
    }

    /// <summary>The kernel calls pages clean after a failed sync; a restarted process must not trust them.</summary>
    [Fact]
    public void AFrameWhoseSyncFailedIsWrittenAgainBeforeItIsTrustedAfterARestart()
    {
        for (var seed = 0; seed < 50; seed++)
        {
            var random = new Random(seed);
            var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
            rig.Open();
            rig.RunRandomly(random, 5, syncAlways: true);
            rig.AppendEntry(WalRig.RandomPayload(random));
            rig.Disk.Fault = static (operation, _) =>
            {
                if (operation == DiskOperation.SyncData)
                {
                    throw new Native.SyncFailedException("fdatasync", "sim", SimDisk.Eio);
                }
            };
            _ = Assert.Throws<Native.SyncFailedException>(rig.Sync);
            rig.Restart(rig.Disk.AfterKill());
            rig.Open();
            var frames = rig.FramesWritten;
            rig.Restart(rig.Disk.AfterPowerLoss(random));
            rig.Open();
            Assert.Equal(frames, rig.FramesWritten);
            rig.Close();
        }
    }

    /// <summary>
    /// A process killed between giving a segment its name and syncing that; the next one must not rely on it.
    /// </summary>
    [Fact]
    public void ANameGivenByAKilledProcessIsMadeDurableByTheNextOne()
    {
        for (var seed = 0; seed < 20; seed++)
        {
            var random = new Random(seed);
            var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
            rig.Open();
            var named = false;
            rig.Disk.Fault = (operation, _) =>
            {
                named |= operation == DiskOperation.Rename;
                if (named && operation == DiskOperation.SyncDirectory)
                {
                    throw new PowerLossException();
                }
            };
            _ = Assert.Throws<PowerLossException>(() => AppendForever(rig, random));
            rig.Restart(rig.Disk.AfterKill());
            rig.Open();
            rig.Disk.Fault = static (operation, _) =>
            {
                // This process must not get to sync the directory for a segment of its own.
                if (operation == DiskOperation.Create)
                {
                    throw SimDisk.Error(SimDisk.Enospc);
                }
            };
            _ = Assert.Throws<DiskFullException>(() => AppendForever(rig, random));
            rig.Restart(rig.Disk.AfterPowerLoss(random));
            rig.Open();
            rig.Close();
        }
    }

    private static void AppendForever(WalRig rig, Random random)
    {
        while (true)
        {
            rig.AppendEntry(new byte[random.Next(2000)]);
            rig.Sync();
        }
    }

    private static void RunGenerations(int seed)
    {
        var random = new Random(seed);
        var syncAlways = random.Next(2) == 0;
        var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
        for (var generation = 0; generation < 4; generation++)
        {
            var moment = rig.Disk.Operations + random.Next(1, 200);
            rig.Disk.Fault = (_, number) => LosePowerAfter(number, moment);
            try
            {
                rig.Open();
                rig.RunRandomly(random, 40, syncAlways);
            }
            catch (PowerLossException)
            {
            }

            rig.Restart(random.Next(2) == 0 ? rig.Disk.AfterKill() : rig.Disk.AfterPowerLoss(random));
        }

        rig.Open();
        rig.Close();
    }

    private static long CountOperations(int seed, bool syncAlways)
    {
        var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
        rig.Open();
        rig.RunRandomly(new Random(seed), 25, syncAlways);
        rig.Close();
        return rig.Disk.Operations;
    }

    private static void LosePowerAt(long moment, int seed, bool syncAlways)
    {
        var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
        rig.Disk.Fault = (_, number) => LosePowerAfter(number, moment);
        try
        {
            rig.Open();
            rig.RunRandomly(new Random(seed), 25, syncAlways);
        }
        catch (PowerLossException)
        {
        }

        for (var outcome = 0; outcome < 4; outcome++)
        {
            var disk = rig.Disk.AfterPowerLoss(new Random(outcome));
            using var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1);
        }

        rig.Restart(rig.Disk.AfterPowerLoss(new Random((int)moment)));
        rig.Open();
        rig.RunRandomly(new Random((int)moment), 5, syncAlways);
        rig.Close();
    }

    /// <summary>A log whose machine lost power somewhere in a run without syncs.</summary>
    private static WalRig CrashedRig(Random random)
    {
        var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
        rig.Open();
        rig.RunRandomly(random, 15, syncAlways: false);
        rig.Restart(rig.Disk.AfterPowerLoss(random));
        return rig;
    }

    private static void LosePowerAfter(long number, long moment)
    {
        if (number >= moment)
        {
            throw new PowerLossException();
        }
    }

    private static void ForSeed(int seed, Action run)
    {
        try
        {
            run();
        }
        catch (Exception e)
        {
            throw new InvalidOperationException($"seed {seed}: {e.Message}", e);
        }
    }
}

using KvNode.Native;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

public sealed class WalFaultTests
{
    /// <summary>
    /// Fails the Nth operation for N = 1, 2, ... until the run needs fewer; then the process is started again.
    /// </summary>
    [Theory]
    [InlineData(SimDisk.Eio, true)]
    [InlineData(SimDisk.Eio, false)]
    [InlineData(SimDisk.Enospc, true)]
    [InlineData(SimDisk.Enospc, false)]
    public void AnyFailingOperationLosesNothingSyncedAndRevivesNothingRefused(int errno, bool powerLoss)
    {
        for (var seed = 1; seed <= 4; seed++)
        {
            var at = 1L;
            while (FailOnce(seed, at, errno, powerLoss))
            {
                at++;
            }

            Assert.True(at > 80);
        }
    }

    [Fact]
    public void AFrameRefusedForLackOfSpaceNeverComesBackAndTheLogGoesOnWhenThereIsSpace()
    {
        for (var seed = 0; seed < 200; seed++)
        {
            var random = new Random(seed);
            var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
            rig.Open();
            rig.RunRandomly(random, 4, syncAlways: true);

            rig.Disk.PartialWrite = bytes => random.Next(bytes / 512) * 512;
            rig.Disk.Fault = static (operation, _) =>
            {
                if (operation == DiskOperation.Write)
                {
                    throw SimDisk.Error(SimDisk.Enospc);
                }
            };
            for (var i = random.Next(1, 4); i > 0; i--)
            {
                _ = Assert.Throws<DiskFullException>(() => rig.AppendEntry(WalRig.RandomPayload(random)));
            }

            switch (random.Next(3))
            {
                case 0:
                    rig.Restart(rig.Disk.AfterPowerLoss(random));
                    rig.Open();
                    break;
                case 1:
                    rig.Restart(rig.Disk.AfterKill());
                    rig.Open();
                    break;
                default:
                    rig.Disk.Fault = null;
                    break;
            }

            rig.RunRandomly(random, 4, syncAlways: true);
            rig.Restart(rig.Disk.AfterPowerLoss(random));
            rig.Open();
            rig.Close();
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void AFullDiskRefusesFramesUntilThereIsSpaceAgain(bool hidesFreeBytes)
    {
        var rig = new WalRig(new SimDisk { Capacity = 60_000, HidesFreeBytes = hidesFreeBytes }, WalRig.SmallSegments);
        rig.Open();
        var payload = new byte[3000];
        var accepted = 0;
        while (true)
        {
            try
            {
                rig.AppendEntry(payload);
                rig.Sync();
                accepted++;
            }
            catch (DiskFullException e)
            {
                Assert.NotEmpty(e.Message);
                break;
            }
        }

        Assert.InRange(accepted, 10, 20);
        _ = Assert.Throws<DiskFullException>(() => rig.AppendEntry(payload));
        rig.Retire(rig.Last.Index);
        rig.AppendEntry(payload);
        rig.Sync();
        rig.Restart(rig.Disk.AfterPowerLoss(new Random(1)));
        rig.Disk.Capacity = 60_000;
        rig.Open();
        Assert.Equal(accepted + 1, rig.FramesWritten);
        rig.Close();
    }

    [Fact]
    public void ASmallDiskGetsSmallSegments()
    {
        var disk = new SimDisk { Capacity = 1 << 20 };
        var options = new WalOptions { Background = false, SegmentBytes = 64 << 20, SegmentBytesMin = 64 << 10 };
        using (var log = WriteAheadLog.Open(disk, options, newLogId: 1))
        {
            for (var i = 1UL; i <= 100; i++)
            {
                log.Append([WalRecord.Entry(new EntryId(1, i), EntryKind.Normal, new byte[5000])]);
            }

            log.Sync();
        }

        Assert.Equal(100UL, WalRecovery.Inspect(disk).Last.Index);
    }

    [Fact]
    public void AfterAFailedSyncTheLogAcceptsNothing()
    {
        var disk = new SimDisk();
        using var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1);
        WalRecord[] records = [WalRecord.Entry(new EntryId(1, 1), EntryKind.Normal, new byte[10])];
        log.Append(records);
        disk.Fault = static (operation, _) =>
        {
            if (operation == DiskOperation.SyncData)
            {
                Throw(operation, SimDisk.Enospc);
            }
        };
        _ = Assert.Throws<SyncFailedException>(log.Sync);
        disk.Fault = null;
        Assert.Equal(0UL, log.DurableIndex);
        _ = Assert.Throws<IOException>(log.Sync);
        _ = Assert.Throws<IOException>(() => log.EnsureDurable(1));
        _ = Assert.Throws<IOException>(
            () => log.Append([WalRecord.Entry(new EntryId(1, 2), EntryKind.Normal, default)]));
    }

    [Fact]
    public void AFailedWriteThatIsNotLackOfSpaceIsNotTriedAgain()
    {
        var disk = new SimDisk();
        using var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1);
        disk.Fault = static (operation, _) =>
        {
            if (operation == DiskOperation.Write)
            {
                Throw(operation, SimDisk.Eio);
            }
        };
        WalRecord[] records = [WalRecord.Entry(new EntryId(1, 1), EntryKind.Normal, new byte[10])];
        Assert.Equal(SimDisk.Eio, Assert.Throws<IOException>(() => log.Append(records)).HResult);
        disk.Fault = null;
        _ = Assert.Throws<IOException>(() => log.Append(records));
    }

    [Fact]
    public void AFailedSyncOfTheDirectoryStopsTheLog()
    {
        var disk = new SimDisk();
        using var log = WriteAheadLog.Open(disk, WalRig.SmallSegments, newLogId: 1);
        disk.Fault = static (operation, _) =>
        {
            if (operation == DiskOperation.SyncDirectory)
            {
                Throw(operation, SimDisk.Eio);
            }
        };
        var error = Assert.Throws<IOException>(() =>
        {
            for (var i = 1UL; i < 20; i++)
            {
                log.Append([WalRecord.Entry(new EntryId(1, i), EntryKind.Normal, new byte[3000])]);
            }
        });
        _ = Assert.IsType<SyncFailedException>(error.InnerException);
    }

    [Theory]
    [InlineData("write", 10_000, 9)]
    [InlineData("sync", 10_000, 9)]
    public void AnInspectionReportsAndChangesNothing(string kind, int bytes, int seed)
    {
        var random = new Random(seed);
        var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
        rig.Open();
        rig.RunRandomly(random, 6, syncAlways: true);
        var end = WalRecovery.Inspect(rig.Disk).Last;
        rig.AppendEntry(new byte[bytes]);
        var disk = rig.Disk;
        if (kind == "write")
        {
            var image = WalRecovery.Inspect(disk);
            disk.Raw(WalFormat.SegmentName(image.Used[^1].Id)).AsSpan((int)image.End - 512, 512).Clear();
        }

        rig.Close();
        var before = disk.Clone();
        var report = WalInspector.Inspect(disk, end);
        Assert.True(report.Sound);
        Assert.Equal(kind == "write" ? end : rig.Last, report.Last);
        Assert.Equal(kind == "write", report.Findings.Any(f => f.Contains("interrupted", StringComparison.Ordinal)));
        Assert.False(WalInspector.Inspect(disk, rig.Last with { Index = rig.Last.Index + 1 }).Sound);
        Assert.False(WalInspector.Inspect(disk, end with { Term = end.Term + 1 }).Sound);
        Assert.Equal(before.Names(), disk.Names());
        Assert.All(disk.Names(), name => Assert.Equal(before.Raw(name), disk.Raw(name)));
    }

    [Fact]
    public void AnInspectionOfADamagedLogNamesThePlace()
    {
        var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
        rig.Open();
        rig.AppendEntry(new byte[100]);
        rig.Sync();
        rig.Close();
        rig.Disk.Raw(WalFormat.SegmentName(1))[600] ^= 1;
        var report = WalInspector.Inspect(rig.Disk, null);
        Assert.False(report.Sound);
        Assert.Contains("at byte 512", report.Findings[^1], StringComparison.Ordinal);
    }

    /// <summary>False if the run has fewer operations.</summary>
    private static bool FailOnce(int seed, long at, int errno, bool powerLoss)
    {
        var random = new Random((seed * 10_000) + (int)at);
        var rig = new WalRig(new SimDisk(), WalRig.SmallSegments);
        rig.Disk.PartialWrite = bytes => random.Next(bytes / 512) * 512;
        var failed = false;
        rig.Disk.Fault = (operation, number) =>
        {
            if (number == at)
            {
                failed = true;
                Throw(operation, errno);
            }
        };
        TolerantRun(rig, new Random(seed));
        if (failed)
        {
            rig.Restart(powerLoss ? rig.Disk.AfterKill().AfterPowerLoss(random) : rig.Disk.AfterKill());
            rig.Open();
            rig.RunRandomly(random, 5, syncAlways: true);
            rig.Restart(rig.Disk.AfterPowerLoss(random));
            rig.Open();
            rig.Close();
        }

        return failed;
    }

    /// <summary>Works on through refusals, stops at the first real failure, as the engine does.</summary>
    private static void TolerantRun(WalRig rig, Random random)
    {
        try
        {
            rig.Open();
            for (var i = 0; i < 25; i++)
            {
                try
                {
                    rig.RunRandomly(random, 1, syncAlways: true);
                }
                catch (DiskFullException)
                {
                    // Refused; the next one may have more luck.
                }
            }
        }
        catch (Exception e) when (e is IOException and not LogCorruptException)
        {
            // The process would end here.
        }
        finally
        {
            rig.Close();
        }
    }

    private static void Throw(DiskOperation operation, int errno) =>
        throw (operation is DiskOperation.SyncData or DiskOperation.SyncDirectory
            ? new SyncFailedException("fdatasync", "sim", errno)
            : SimDisk.Error(errno));
}

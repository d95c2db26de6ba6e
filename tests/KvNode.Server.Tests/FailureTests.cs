using System.Net.Sockets;
using KvNode.Raft;
using KvNode.Raft.Snapshots;
using KvNode.Server.Hosting;
using KvNode.Storage;
using KvNode.Storage.Snapshots;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class FailureTests
{
    public static TheoryData<Exception, int> Known => new()
    {
        { new LogCorruptException("x"), 65 },
        { new JoinRefusedException("x"), 76 },
        { new NodeRemovedException("x"), 78 },
        { new FileNotFoundException("x"), 66 },
        { new SnapshotFormatException("x"), 65 },
        { new SnapshotInvalidException("x"), 65 },
        { new DiskFormatException("x"), 65 },
        { new DllNotFoundException("x"), 69 },
        { new TypeInitializationException("T", new DllNotFoundException("x")), 69 },
        { new InvalidOperationException("x"), 70 },
        { new SocketException((int)SocketError.HostNotFound), 71 },
        { new IOException("x"), 74 },
        { new CannotCreateException("x", new IOException("y")), 73 },
        { new DirectoryLockedException("x", 1), 75 },
        { new SocketException((int)SocketError.AddressAlreadyInUse), 75 },
        { new IOException("x", new SocketException((int)SocketError.AddressAlreadyInUse)), 75 },
        { new UnauthorizedAccessException("x"), 77 },
        { new SocketException((int)SocketError.AccessDenied), 77 },
        { new AggregateException(new LogCorruptException("x")), 65 },
    };

    [Theory]
    [MemberData(nameof(Known))]
    public void EveryKindOfFailureHasItsExitCode(Exception exception, int exitCode) =>
        Assert.Equal(exitCode, Failure.Of(exception).ExitCode);

    [Fact]
    public void FailedSyncOfTheLogHasACodeOfItsOwn()
    {
        var type = typeof(IConsensusEngine).Assembly.GetType("KvNode.Native.SyncFailedException", throwOnError: true)!;
        var exception = (Exception)Activator.CreateInstance(type, "fdatasync", "wal", 5)!;
        Assert.Equal(ExitCodes.SyncFailed, Failure.Of(exception).ExitCode);
        Assert.Equal(ExitCodes.SyncFailed, Failure.Of(new AggregateException(exception)).ExitCode);
    }

    [Fact]
    public void DefectIsReportedWithItsStackAndTheWorldsFaultWithoutOne()
    {
        Assert.Contains("System.InvalidOperationException", Failure.Of(new InvalidOperationException("x")).Message, StringComparison.Ordinal);
        Assert.Equal("x", Failure.Of(new IOException("x")).Message);
    }

    [Fact]
    public void WhatTheClusterRefusesEndsTheNodeWithASentenceAndADefectWithItsStack()
    {
        Assert.Equal("kvnode: fatal: wrong secret (exit code 76)", FatalExit.Text(new JoinRefusedException("wrong secret"), ExitCodes.JoinRefused));
        Assert.Equal(
            "kvnode: fatal: back in time (exit code 65)", FatalExit.Text(new LogCorruptException("back in time"), ExitCodes.BadData));
        Assert.Contains(
            "System.InvalidOperationException", FatalExit.Text(new InvalidOperationException("x"), ExitCodes.Internal), StringComparison.Ordinal);
    }

    [Fact]
    public void MissingLibraryNamesItsPackage()
    {
        var failure = Failure.Of(new NativeLibraryMissingException("liblmdb.so.0", "liblmdb0", detail: null));
        Assert.Equal(ExitCodes.LibraryMissing, failure.ExitCode);
        Assert.Contains("apt-get install liblmdb0", failure.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AddressThatCannotBeListenedOnIsNamed()
    {
        var inUse = new IOException("Failed to bind", new SocketException((int)SocketError.AddressAlreadyInUse));
        var failure = Failure.Of(new ListenException("127.0.0.1:4920", inUse));
        Assert.Equal(ExitCodes.InUse, failure.ExitCode);
        Assert.Equal("cannot listen on 127.0.0.1:4920: Address already in use", failure.Message);
        Assert.Equal(
            ExitCodes.NoPermission,
            Failure.Of(new ListenException(":80", new SocketException((int)SocketError.AccessDenied))).ExitCode);
    }

    [Fact]
    public void ExitCodesAreDistinctAndInOrder()
    {
        var codes = ExitCodes.Table.Select(static row => row.Code).ToArray();
        Assert.Equal(codes.Distinct().Order(), codes);
    }

    [Fact]
    public void OpenFilesLimitBoundsTheClients()
    {
        string[] limits = ["Limit  Soft Limit  Hard Limit  Units", "Max open files            1024                 4096                 files"];
        Assert.Equal(1024, OpenFiles.Read(limits));
        Assert.Equal(long.MaxValue, OpenFiles.Read(["Max open files            unlimited            unlimited            files"]));
        Assert.Equal(1024 - Limits.FilesBesideClients, OpenFiles.ClientsAllowed(10_000, 1024));
        Assert.Equal(10_000, OpenFiles.ClientsAllowed(10_000, long.MaxValue));
        Assert.Equal(1, OpenFiles.ClientsAllowed(10_000, 64));
        Assert.True(OpenFiles.Max() > 0);
    }
}

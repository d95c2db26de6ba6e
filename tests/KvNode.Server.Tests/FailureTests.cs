using System.Net.Sockets;
using KvNode.Raft;
using KvNode.Server.Hosting;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class FailureTests
{
    public static TheoryData<Exception, int> Known => new()
    {
        { new LogCorruptException("x"), 65 },
        { new FileNotFoundException("x"), 66 },
        { new DllNotFoundException("liblmdb.so.0"), 69 },
        { new TypeInitializationException("T", new DllNotFoundException("x")), 69 },
        { new InvalidOperationException("x"), 70 },
        { new SocketException((int)SocketError.HostNotFound), 71 },
        { new IOException("x"), 74 },
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

    [Theory]
    [InlineData("Unable to load shared library 'liblmdb.so.0' or one of its dependencies.", "liblmdb0")]
    [InlineData("Unable to load shared library 'liblz4.so.1' or one of its dependencies.", "liblz4-1")]
    public void MissingLibraryNamesItsPackage(string message, string package) =>
        Assert.Contains($"apt-get install {package}", Failure.Of(new DllNotFoundException(message)).Message, StringComparison.Ordinal);

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

using System.Net.Sockets;
using KvNode.Raft;
using KvNode.Raft.Snapshots;
using KvNode.Storage;
using KvNode.Storage.Lmdb;
using KvNode.Storage.Snapshots;
using Microsoft.AspNetCore.Connections;

namespace KvNode.Server.Hosting;

/// <summary>How the program ends when something in the world is wrong, and what it says then.</summary>
/// <param name="Message">For people; names what to do where that is known.</param>
internal sealed record Failure(int ExitCode, string Message)
{
    /// <summary>
    /// What this exception means for the person who started the program. Always something: what is not known to be the
    /// world's fault is a defect of ours, and its message carries the stack.
    /// </summary>
    public static Failure Of(Exception exception) => exception switch
    {
        _ when IsSyncFailure(exception) => new(ExitCodes.SyncFailed, exception.Message),
        NativeLibraryMissingException => new(ExitCodes.LibraryMissing, exception.Message),
        DllNotFoundException => new(ExitCodes.LibraryMissing, exception.Message),
        DirectoryLockedException => new(ExitCodes.InUse, exception.Message),
        ListenException { InnerException: { } cause } => Of(cause) with { Message = exception.Message },
        CannotCreateException => new(ExitCodes.CannotCreate, exception.Message),
        LmdbException { IsPermission: true } => new(ExitCodes.NoPermission, exception.Message),
        LmdbException { IsDiskFailure: true } => new(ExitCodes.SyncFailed, exception.Message),
        LmdbException { IsDamage: true } or DiskFormatException => new(ExitCodes.BadData, exception.Message),
        SnapshotFormatException or SnapshotInvalidException => new(ExitCodes.BadData, exception.Message),
        SecurityFileException => new(ExitCodes.BadData, exception.Message),
        LogCorruptException or InvalidDataException => new(ExitCodes.BadData, exception.Message),
        FileNotFoundException or DirectoryNotFoundException => new(ExitCodes.NoInput, exception.Message),
        UnauthorizedAccessException => new(ExitCodes.NoPermission, exception.Message),
        AddressInUseException => new(ExitCodes.InUse, exception.Message),
        SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse } => new(ExitCodes.InUse, exception.Message),
        SocketException { SocketErrorCode: SocketError.AccessDenied } => new(ExitCodes.NoPermission, exception.Message),
        SocketException => new(ExitCodes.System, exception.Message),
        IOException { InnerException: AddressInUseException or SocketException } => Of(exception.InnerException),
        IOException => new(ExitCodes.InputOutput, exception.Message),
        TypeInitializationException { InnerException: { } cause } => Of(cause),
        AggregateException { InnerExceptions: [var only] } => Of(only),
        _ => new(ExitCodes.Internal, $"this is a defect of kvnode, please report it: {exception}"),
    };

    /// <summary>Raft and Storage each carry the type, internal, from one source (neither references the other), so the
    /// name is what the two have in common.</summary>
    private static bool IsSyncFailure(Exception exception) => exception.GetType().Name == "SyncFailedException";
}

/// <summary>The address could not be listened on.</summary>
internal sealed class ListenException(string address, Exception cause)
    : IOException($"cannot listen on {address}: {cause.GetBaseException().Message}", cause);

/// <summary>A directory the node needs could not be made.</summary>
internal sealed class CannotCreateException(string directory, Exception cause)
    : IOException($"cannot make the directory '{directory}': {cause.Message}", cause);

//! The journeys: whole deployments of real processes, used as a person would.

mod claude_cli;
mod docs;
mod first_call;
mod foreign;
mod harness;
mod house;
mod images;
mod input;
mod moves;
mod outages;
mod readers;
mod restarts;
mod runners;
mod secrets;
mod support;
mod tour;
mod up;
mod workspaces;
